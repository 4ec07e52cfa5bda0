import { afterEach, expect, test, vi } from 'vitest';
import { rerunCommand } from './commands';
import { Problem, Unreachable } from './problem';

afterEach(() => void vi.unstubAllGlobals());

let keys: string[] = [];

/** @param answer - the response to each request from now on. */
function respondWith(answer: (key: string) => Promise<Response>): void {
  keys = [];
  vi.stubGlobal('fetch', (_: string, init: RequestInit) => {
    const key = (init.headers as Record<string, string>)['Idempotency-Key']!;
    keys.push(key);
    return answer(key);
  });
}

const created = async (key: string) => new Response(JSON.stringify({ id: `created by ${key}` }), { status: 201 });
const lost = async () => Promise.reject(new TypeError('network error'));

test('clicks before the response create one command', async () => {
  const answers: (() => void)[] = [];
  respondWith((key) => new Promise((resolve) => answers.push(() => resolve(created(key)))));
  const clicks = [rerunCommand('a'), rerunCommand('a'), rerunCommand('other')];
  await vi.waitFor(() => expect(answers).toHaveLength(3));
  answers.forEach((answer) => answer());
  const [first, second, other] = await Promise.all(clicks);
  expect(second!.id).toBe(first!.id);
  expect(other!.id).not.toBe(first!.id);
});

test('a click after a lost response sends the same key, a click after a response sends a new one', async () => {
  respondWith(lost);
  await expect(rerunCommand('b')).rejects.toBeInstanceOf(Unreachable);
  const [key] = keys;
  respondWith(async () => new Response('{"id": "cut', { status: 201 }));
  await expect(rerunCommand('b')).rejects.toBeInstanceOf(Unreachable);
  expect(keys).toEqual([key]);
  respondWith(async () => new Response('', { status: 503 }));
  await expect(rerunCommand('b')).rejects.toBeInstanceOf(Unreachable);
  expect(keys).toEqual([key]);
  respondWith(created);
  await rerunCommand('b');
  await rerunCommand('b');
  expect(keys[0]).toBe(key);
  expect(keys[1]).not.toBe(key);
});

test('a late response to the first click does not forget the key of a later click', async () => {
  let answerFirst!: () => void;
  respondWith((key) => new Promise((resolve) => (answerFirst = () => resolve(created(key)))));
  const first = rerunCommand('c');
  await vi.waitFor(() => expect(keys).toHaveLength(1));
  const [firstKey] = keys;
  respondWith(created);
  await rerunCommand('c');
  expect(keys).toEqual([firstKey]);
  respondWith(lost);
  await expect(rerunCommand('c')).rejects.toBeInstanceOf(Unreachable);
  const [newKey] = keys;
  expect(newKey).not.toBe(firstKey);
  answerFirst();
  await first;
  respondWith(created);
  await rerunCommand('c');
  expect(keys).toEqual([newKey]);
});

test('a refusal forgets the key', async () => {
  respondWith(async () => new Response('', { status: 410 }));
  await expect(rerunCommand('d')).rejects.toBeInstanceOf(Problem);
  const [key] = keys;
  respondWith(created);
  await rerunCommand('d');
  expect(keys[0]).not.toBe(key);
});
