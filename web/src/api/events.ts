/**
 * Reads a command's event stream with fetch. EventSource would hide the HTTP status of a failure.
 * With fetch, a slow reader also slows the service down instead of filling the tab's memory.
 */
import { send } from './client';
import { Unreachable } from './problem';
import { EventStreamParser } from './sse';
import type { Chunk, CommandEvent, OutputEvent } from './types';

export type StreamEvent =
  | { kind: 'status'; command: CommandEvent }
  | { kind: 'output'; chunk: Chunk }
  | { kind: 'end'; command: CommandEvent };

/** The service sends something every 15 s. After this silence the connection counts as lost. */
const SILENCE_SECONDS = 20;

/** Return the chunk in an output event. */
export function toChunk(data: OutputEvent): Chunk {
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
 * Yield a command's events from a position until the `end` event.
 *
 * @param after - position of the first byte of output to read.
 * @throws Unreachable: the connection was lost before the end. Problem: the service refused the
 * request. The signal's reason: the signal was aborted.
 */
export async function* streamEvents(
  id: string,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<StreamEvent> {
  const silence = new AbortController();
  const abortOrSilence = AbortSignal.any([signal, silence.signal]);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const restartTimer = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_SECONDS * 1000);
  };
  restartTimer();
  const response = await send(`/v1/commands/${encodeURIComponent(id)}/events?after=${after}`, {
    signal: abortOrSilence,
    headers: { Accept: 'text/event-stream' },
    timeoutSeconds: null,
  })
    .catch((error: unknown) => {
      throw silence.signal.aborted && !signal.aborted ? new Unreachable() : error;
    })
    .finally(() => clearTimeout(timer));
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventStreamParser();
  try {
    for (;;) {
      restartTimer();
      const read = await reader.read();
      clearTimeout(timer);
      if (read.done) throw new Unreachable('The connection was closed.');
      for (const message of parser.push(read.value)) {
        const event = parseEvent(message.event, message.data);
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

function parseEvent(name: string, data: string): StreamEvent | null {
  if (name === 'output') return { kind: 'output', chunk: toChunk(JSON.parse(data) as OutputEvent) };
  if (name === 'status' || name === 'end') {
    return { kind: name, command: JSON.parse(data) as CommandEvent };
  }
  return null;
}

/**
 * Return the chunks of a range of positions, with their times.
 *
 * @param to - position after the last byte to read. If the service has not stored the whole range
 * yet, this function waits for the rest. If the output ends earlier, the result is shorter.
 */
export async function readRange(
  id: string,
  from: number,
  to: number,
  signal: AbortSignal,
): Promise<Chunk[]> {
  const chunks: Chunk[] = [];
  if (from >= to) return chunks;
  for await (const event of streamEvents(id, from, signal)) {
    if (event.kind !== 'output') continue;
    const { chunk } = event;
    const end = chunk.position + chunk.bytes.length;
    chunks.push(end > to ? { ...chunk, bytes: chunk.bytes.subarray(0, to - chunk.position) } : chunk);
    if (end >= to) break;
  }
  return chunks;
}
