// node.sh's program: workers write JSON documents, the main thread checks, compresses, reads and rewrites each.
// Prints a checksum. usage: node node.js ITEMS
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const { promisify } = require('util');
const zlib = require('zlib');

const WORKERS = 3;
const ROUNDS = 40;
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

// A worker waits for its turn, so that not more than one document of each is about.
function work() {
    const { number, items } = workerData;
    let round = 0;
    parentPort.on('message', () => {
        if (round === ROUNDS)
            return parentPort.close();
        const text = JSON.stringify(makeDocument(number * ROUNDS + round++, items));
        const bytes = new TextEncoder().encode(text);
        parentPort.postMessage(bytes, [bytes.buffer]);
    });
}

async function check(bytes) {
    const back = await inflate(await deflate(bytes, { level: 1 }));
    if (!back.equals(bytes))
        throw new Error('a document came back changed');
    const again = Buffer.from(JSON.stringify(JSON.parse(back.toString())));
    if (!again.equals(bytes))
        throw new Error('a document was rewritten differently');
    return sha256(again);
}

async function main() {
    const items = Math.floor(Number(process.argv[2]) / WORKERS);
    const digests = [];
    await Promise.all(Array.from({ length: WORKERS }, (_, number) => new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: { number, items } });
        worker.on('message', (bytes) => check(bytes).then((digest) => {
            digests.push(digest);
            worker.postMessage('next');
        }, reject));
        worker.on('error', reject);
        worker.on('exit', resolve);
        worker.postMessage('first');
    })));
    if (digests.length !== WORKERS * ROUNDS)
        throw new Error(`${digests.length} documents of ${WORKERS * ROUNDS}`);
    console.log(sha256(digests.sort().join('\n')));
}

if (isMainThread)
    main();
else
    work();
