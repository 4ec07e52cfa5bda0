/**
 * A command's event stream, read with fetch rather than EventSource: it shows the HTTP status of a
 * failure, and a reader who is slow slows the service down instead of filling the tab's memory.
 */
import type { Chunk } from '../output/chunks';
import { send } from './client';
import { Unreachable } from './problem';
import { EventParser } from './sse';
import type { CommandEvent, OutputEvent } from './types';

export type StreamEvent =
  | { kind: 'status'; command: CommandEvent }
  | { kind: 'output'; chunk: Chunk }
  | { kind: 'end'; command: CommandEvent };

/** The service says something every 15 s. After this, a request or a stream is taken for dead. */
const SILENCE_SECONDS = 20;

/** Return the bytes an output event stands for. */
export function chunkOf(data: OutputEvent): Chunk {
  return {
    position: data.position,
    stream: data.stream,
    time: Date.parse(data.time),
    bytes:
      data.text != null
        ? new TextEncoder().encode(data.text)
        : Uint8Array.from(atob(data.base64 ?? ''), (char) => char.charCodeAt(0)),
  };
}

/**
 * Yield a command's events from a position on, until its end or until the connection is lost.
 *
 * @param after - position of the first byte that is wanted.
 * @throws Unreachable: it was lost before the end. Problem: the service said no.
 */
export async function* events(
  id: string,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const expectSomething = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
  };
  expectSomething();
  const response = await send(`/v1/commands/${encodeURIComponent(id)}/events?after=${after}`, {
    signal: either,
    headers: { Accept: 'text/event-stream' },
    timeoutSeconds: null,
  })
    .catch((error: unknown) => {
      throw silence.signal.aborted && !signal.aborted ? new Unreachable() : error;
    })
    .finally(() => clearTimeout(timer));
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      expectSomething();
      const piece = await reader.read();
      clearTimeout(timer);
      if (piece.done) throw new Unreachable('The connection was closed.');
      for (const found of parser.push(piece.value)) {
        const event = streamEvent(found.event, found.data);
        if (event) yield event;
        if (event?.kind === 'end') return;
      }
    }
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error instanceof TypeError || silence.signal.aborted
      ? new Unreachable('The connection was lost.')
      : error;
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => undefined);
  }
}

function streamEvent(name: string, data: string): StreamEvent | null {
  if (name === 'output') return { kind: 'output', chunk: chunkOf(JSON.parse(data) as OutputEvent) };
  if (name === 'status' || name === 'end') {
    return { kind: name, command: JSON.parse(data) as CommandEvent };
  }
  return null;
}

/**
 * Return the chunks of a range of positions, with their times; what there is of it.
 *
 * @param to - position behind the last byte that is wanted; must be stored already.
 */
export async function readRange(
  id: string,
  from: number,
  to: number,
  signal: AbortSignal,
): Promise<Chunk[]> {
  const chunks: Chunk[] = [];
  if (from >= to) return chunks;
  for await (const event of events(id, from, signal)) {
    if (event.kind !== 'output') continue;
    const { chunk } = event;
    const end = chunk.position + chunk.bytes.length;
    chunks.push(end > to ? { ...chunk, bytes: chunk.bytes.subarray(0, to - chunk.position) } : chunk);
    if (end >= to) break;
  }
  return chunks;
}
