/**
 * Chunks as text for a terminal: each stream is decoded and made safe on its own, so that a
 * character or a sequence of one that is cut in two is whole again, whatever the other wrote between.
 */
import type { StreamName } from '../../api/types';
import type { Chunk } from '../chunks';
import { Sanitizer } from './sanitize';

class StreamText {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #sanitizer = new Sanitizer();

  push(bytes: Uint8Array): string {
    return this.#sanitizer.push(this.#decoder.decode(bytes, { stream: true }));
  }
}

export class OutputText {
  readonly #streams: Record<StreamName, StreamText> = {
    stdout: new StreamText(),
    stderr: new StreamText(),
  };

  push(chunk: Chunk): string {
    return this.#streams[chunk.stream].push(chunk.bytes);
  }
}
