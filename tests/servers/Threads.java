import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/**
 * java.t's program. Direct buffers and the state of Deflater and Inflater are malloc blocks: threads fill and
 * compress them, others unpack and compare them. Prints checksums. usage: Threads MIB
 */
public class Threads {
    static final int THREADS = 4;
    static final int ROUNDS = 150;
    static final int CHURN = 1000;

    record Packed(int size, long checksum, byte[] data) {}

    static ByteBuffer fill(int size, long seed) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(size);
        while (buffer.remaining() >= 8) {
            seed = seed * 6364136223846793005L + 1442695040888963407L;
            buffer.putLong((seed >>> 33) % 1000);
        }
        return buffer.rewind();
    }

    static long checksum(ByteBuffer buffer) {
        CRC32 crc = new CRC32();
        crc.update(buffer.duplicate());
        return crc.getValue();
    }

    static long produce(int number, int size, BlockingQueue<Packed> out) throws Exception {
        long sum = 0;
        for (int round = 0; round < ROUNDS; round++) {
            ByteBuffer buffer = fill(size + round * 1000, number * 1000L + round);
            long checksum = checksum(buffer);
            byte[] data = new byte[buffer.capacity() + 1024];
            Deflater deflater = new Deflater(1);
            deflater.setInput(buffer);
            deflater.finish();
            int length = deflater.deflate(data);
            deflater.end();
            out.put(new Packed(buffer.capacity(), checksum, java.util.Arrays.copyOf(data, length)));
            sum += checksum;
        }
        return sum;
    }

    static long consume(BlockingQueue<Packed> in) throws Exception {
        long sum = 0;
        for (int round = 0; round < ROUNDS; round++) {
            Packed packed = in.take();
            ByteBuffer buffer = ByteBuffer.allocateDirect(packed.size);
            Inflater inflater = new Inflater();
            inflater.setInput(packed.data);
            inflater.inflate(buffer);
            inflater.end();
            if (checksum(buffer.flip()) != packed.checksum)
                throw new IllegalStateException("a buffer came back changed");
            sum += packed.checksum;
        }
        return sum;
    }

    /** Short-lived threads: each brings handles and thread-local buffers, and takes them away again. */
    static long churn() throws Exception {
        AtomicLong sum = new AtomicLong();
        for (int i = 0; i < CHURN; i++) {
            int number = i;
            String text = String.valueOf(number);
            Thread thread = new Thread(() -> sum.addAndGet(text.repeat(number % 50).hashCode()));
            thread.start();
            thread.join();
        }
        return sum.get();
    }

    public static void main(String[] args) throws Exception {
        int size = Integer.parseInt(args[0]) * (1 << 20) / THREADS / 256 / 8 * 8;
        ExecutorService pool = Executors.newCachedThreadPool();
        Map<String, Callable<Long>> tasks = new TreeMap<>();
        for (int i = 0; i < THREADS; i++) {
            int number = i;
            BlockingQueue<Packed> queue = new ArrayBlockingQueue<>(4);
            tasks.put("produce " + i, () -> produce(number, size, queue));
            tasks.put("consume " + i, () -> consume(queue));
        }
        tasks.put("churn", Threads::churn);
        List<Future<Long>> results = new ArrayList<>();
        for (Callable<Long> task : tasks.values())
            results.add(pool.submit(task));
        int i = 0;
        for (String name : tasks.keySet())
            System.out.println(name + " " + results.get(i++).get());
        pool.shutdown();
    }
}
