import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { follow } from './follow';
import { events } from './events';
import { Unreachable } from './problem';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

type Fetch = (path: string, init: RequestInit) => Promise<Response>;

/** A connection that is open and silent: only the client ends it. */
const never: Fetch = (_, { signal }) =>
  new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason as Error)));

const END = 'event: end\ndata: {"status":"succeeded"}\n\n';

function stream(text: string, headers = { 'content-type': 'text/event-stream' }): Response {
  return new Response(text, { headers });
}

/** @param answers - what each request in turn meets; the last one meets the rest too. */
function answering(...answers: Fetch[]): { count: number } {
  const asked = { count: 0 };
  vi.stubGlobal('fetch', (path: string, init: RequestInit) =>
    answers[Math.min(asked.count++, answers.length - 1)]!(path, init),
  );
  return asked;
}

test('a request that is never answered is lost after the silence', async () => {
  answering(never);
  const first = events('id', 0, new AbortController().signal).next();
  const lost = expect(first).rejects.toBeInstanceOf(Unreachable);
  let settled = false;
  first.catch(() => undefined).finally(() => (settled = true));
  await vi.advanceTimersByTimeAsync(19_000);
  expect(settled).toBe(false);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(settled).toBe(true);
  await lost;
});

test('a request that is never answered is sent again', async () => {
  const asked = answering(never, never, async () => stream(END));
  const seen: string[] = [];
  const told: string[] = [];
  const done = follow(
    'id',
    0,
    {
      event: (event) => void seen.push(event.kind),
      lost: () => told.push('lost'),
      back: () => told.push('back'),
    },
    new AbortController().signal,
  );
  await vi.advanceTimersByTimeAsync(60_000);
  expect([asked.count, seen, told]).toEqual([3, ['end'], ['lost', 'back']]);
  await done;
});

test('a stream that falls silent is lost, one that speaks is not', async () => {
  let feed!: ReadableStreamDefaultController<Uint8Array>;
  answering(async (_, { signal }) => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        feed = controller;
        signal!.addEventListener('abort', () => controller.error(signal!.reason));
      },
    });
    return new Response(body);
  });
  let settled = false;
  const first = events('id', 0, new AbortController().signal).next();
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

test('no timer is left behind by an answer, a refusal or a caller that goes', async () => {
  answering(async () => stream(END));
  for await (const event of events('id', 0, new AbortController().signal)) expect(event.kind).toBe('end');
  answering(async () => new Response('', { status: 404 }));
  await expect(events('id', 0, new AbortController().signal).next()).rejects.toThrow('404');
  answering(never);
  const gone = new AbortController();
  const waiting = expect(events('id', 0, gone.signal).next()).rejects.toThrow('gone');
  gone.abort(new Error('gone'));
  await waiting;
  expect(vi.getTimerCount()).toBe(0);
});
