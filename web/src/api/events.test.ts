import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { streamEvents } from './events';
import { follow } from './follow';
import { Unreachable } from './problem';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

type Fetch = (path: string, init: RequestInit) => Promise<Response>;

/** A connection that stays open and silent until the client aborts it. */
const silent: Fetch = (_, { signal }) =>
  new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason as Error)));

const END = 'event: end\ndata: {"status":"succeeded"}\n\n';

function stream(text: string, headers = { 'content-type': 'text/event-stream' }): Response {
  return new Response(text, { headers });
}

/** @param responses - one for each request in turn; the last one also serves all later requests. */
function respondWith(...responses: Fetch[]): { count: number } {
  const requests = { count: 0 };
  vi.stubGlobal('fetch', (path: string, init: RequestInit) =>
    responses[Math.min(requests.count++, responses.length - 1)]!(path, init),
  );
  return requests;
}

test('a request without a response fails after the silence limit', async () => {
  respondWith(silent);
  const first = streamEvents('id', 0, new AbortController().signal).next();
  const lost = expect(first).rejects.toBeInstanceOf(Unreachable);
  let settled = false;
  first.catch(() => undefined).finally(() => (settled = true));
  await vi.advanceTimersByTimeAsync(19_000);
  expect(settled).toBe(false);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(settled).toBe(true);
  await lost;
});

test('a request without a response is sent again', async () => {
  const requests = respondWith(silent, silent, async () => stream(END));
  const seen: string[] = [];
  const reports: string[] = [];
  const done = follow(
    'id',
    0,
    {
      event: (event) => void seen.push(event.kind),
      lost: () => reports.push('lost'),
      restored: () => reports.push('restored'),
    },
    new AbortController().signal,
  );
  await vi.advanceTimersByTimeAsync(60_000);
  expect([requests.count, seen, reports]).toEqual([3, ['end'], ['lost', 'restored']]);
  await done;
});

test('a stream that falls silent fails, a stream with comments does not', async () => {
  let feed!: ReadableStreamDefaultController<Uint8Array>;
  respondWith(async (_, { signal }) => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        feed = controller;
        signal!.addEventListener('abort', () => controller.error(signal!.reason));
      },
    });
    return new Response(body);
  });
  let settled = false;
  const first = streamEvents('id', 0, new AbortController().signal).next();
  const lost = expect(first).rejects.toBeInstanceOf(Unreachable);
  first.catch(() => undefined).finally(() => (settled = true));
  for (let comments = 0; comments < 8; comments++) {
    await vi.advanceTimersByTimeAsync(15_000);
    feed.enqueue(new TextEncoder().encode(':\n\n'));
  }
  expect(settled).toBe(false);
  await vi.advanceTimersByTimeAsync(21_000);
  await lost;
});

test('no timer is left after a response, a refusal or an abort', async () => {
  respondWith(async () => stream(END));
  for await (const event of streamEvents('id', 0, new AbortController().signal)) expect(event.kind).toBe('end');
  respondWith(async () => new Response('', { status: 404 }));
  await expect(streamEvents('id', 0, new AbortController().signal).next()).rejects.toThrow('404');
  respondWith(silent);
  const gone = new AbortController();
  const waiting = expect(streamEvents('id', 0, gone.signal).next()).rejects.toThrow('gone');
  gone.abort(new Error('gone'));
  await waiting;
  expect(vi.getTimerCount()).toBe(0);
});
