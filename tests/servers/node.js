// node.t's program: four worker threads make JSON documents; the main thread reads them back, compresses them
// on the thread pool, and checks them. Prints one checksum for each. usage: node node.js MIB
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const { promisify } = require('util');
const zlib = require('zlib');

const THREADS = 4;
const ROUNDS = 30;
const deflate = promisify(zlib.deflate);
const inflate = promisify(zlib.inflate);

function makeDocument(seed, items) {
    const list = [];
    for (let i = 0; i < items; i++)
        list.push({
            id: i,
            name: 'n'.repeat((i * seed) % 97),
            tags: Array.from({ length: i % 7 }, (_, k) => `${i * k}`),
        });
    return { seed, list };
}

function sha256(data) {
    return createHash('sha256').update(data).digest('hex');
}

function work() {
    const { number, items } = workerData;
    for (let round = 0; round < ROUNDS; round++) {
        const text = JSON.stringify(makeDocument(number * ROUNDS + round, items));
        const again = JSON.stringify(JSON.parse(text));
        // A buffer of its own, and not a slice of node's pool: its memory changes hands with the message.
        const bytes = new TextEncoder().encode(again);
        parentPort.postMessage({ number, round, digest: sha256(text), bytes }, [bytes.buffer]);
    }
}

async function main() {
    const items = Math.floor((Number(process.argv[2]) << 20) / THREADS / 6000);
    const lines = [];
    const checks = [];
    async function check({ number, round, digest, bytes }) {
        const back = await inflate(await deflate(bytes, { level: 1 }));
        if (sha256(back) !== digest)
            throw new Error(`worker ${number}, round ${round}: the document came back changed`);
        const tags = JSON.parse(back.toString()).list.reduce((sum, item) => sum + item.tags.length, 0);
        lines.push(`${number} ${round} ${digest} ${tags}`);
    }
    await Promise.all(Array.from({ length: THREADS }, (_, number) => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: { number, items } });
        worker.on('message', (message) => checks.push(check(message)));
        worker.on('error', reject);
        worker.on('exit', resolve);
    })));
    await Promise.all(checks);
    if (lines.length !== THREADS * ROUNDS)
        throw new Error(`${lines.length} documents of ${THREADS * ROUNDS}`);
    console.log(lines.sort().join('\n'));
}

if (isMainThread)
    main();
else
    work();
