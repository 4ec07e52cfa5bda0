import { afterEach, expect, test, vi } from 'vitest';
import { rerun } from './commands';
import { Problem, Unreachable } from './problem';

afterEach(() => void vi.unstubAllGlobals());

let keys: string[] = [];

/** @param answer - of each request from now on; null: none comes. */
function answering(answer: (key: string) => Promise<Response>): void {
  keys = [];
  vi.stubGlobal('fetch', (_: string, init: RequestInit) => {
    const key = (init.headers as Record<string, string>)['Idempotency-Key']!;
    keys.push(key);
    return answer(key);
  });
}

const made = async (key: string) => new Response(JSON.stringify({ id: `made by ${key}` }), { status: 201 });
const lost = async () => Promise.reject(new TypeError('network error'));

test('clicks before the answer are one wish', async () => {
  const answers: (() => void)[] = [];
  answering((key) => new Promise((resolve) => answers.push(() => resolve(made(key)))));
  const clicks = [rerun('a'), rerun('a'), rerun('other')];
  await vi.waitFor(() => expect(answers).toHaveLength(3));
  answers.forEach((answer) => answer());
  const [first, second, other] = await Promise.all(clicks);
  expect(second!.id).toBe(first!.id);
  expect(other!.id).not.toBe(first!.id);
});

test('a click after a lost answer is the same wish, one after the answer is a new one', async () => {
  answering(lost);
  await expect(rerun('b')).rejects.toBeInstanceOf(Unreachable);
  const [key] = keys;
  answering(async () => new Response('{"id": "cut', { status: 201 }));
  await expect(rerun('b')).rejects.toBeInstanceOf(Unreachable);
  expect(keys).toEqual([key]);
  answering(async () => new Response('', { status: 503 }));
  await expect(rerun('b')).rejects.toBeInstanceOf(Unreachable);
  expect(keys).toEqual([key]);
  answering(made);
  await rerun('b');
  await rerun('b');
  expect(keys[0]).toBe(key);
  expect(keys[1]).not.toBe(key);
});

test('a late answer of the first click does not end the wish of a later one', async () => {
  let answerFirst!: () => void;
  answering((key) => new Promise((resolve) => (answerFirst = () => resolve(made(key)))));
  const first = rerun('c');
  await vi.waitFor(() => expect(keys).toHaveLength(1));
  const [firstKey] = keys;
  answering(made);
  await rerun('c');
  expect(keys).toEqual([firstKey]);
  answering(lost);
  await expect(rerun('c')).rejects.toBeInstanceOf(Unreachable);
  const [newKey] = keys;
  expect(newKey).not.toBe(firstKey);
  answerFirst();
  await first;
  answering(made);
  await rerun('c');
  expect(keys).toEqual([newKey]);
});

test('a refusal ends the wish', async () => {
  answering(async () => new Response('', { status: 410 }));
  await expect(rerun('d')).rejects.toBeInstanceOf(Problem);
  const [key] = keys;
  answering(made);
  await rerun('d');
  expect(keys[0]).not.toBe(key);
});
