/**
 * Decodes chunks to text for the terminal. Each stream has its own decoder and sanitizer, so that a
 * character or an escape sequence is put together again when the other stream wrote in between.
 */
import type { Chunk, StreamName } from '../../api/types';
import { Sanitizer } from './sanitize';

class StreamDecoder {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #sanitizer = new Sanitizer();

  push(bytes: Uint8Array): string {
    return this.#sanitizer.push(this.#decoder.decode(bytes, { stream: true }));
  }
}

export class OutputDecoder {
  readonly #streams: Record<StreamName, StreamDecoder> = {
    stdout: new StreamDecoder(),
    stderr: new StreamDecoder(),
  };

  push(chunk: Chunk): string {
    return this.#streams[chunk.stream].push(chunk.bytes);
  }
}
