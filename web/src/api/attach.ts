/**
 * Attaches to an interactive command over a WebSocket: its output arrives, and input goes to it.
 *
 * If the connection is lost, it is made again, and no byte of output is lost or repeated. Input is
 * never sent again, because it may have arrived. While there is no connection, input is refused.
 */
import { getCommand } from './commands';
import { Problem, Unreachable, isTemporary, messageOf } from './problem';
import { retryDelay, sleep } from './retry';
import { type CommandEvent, type ProblemBody, isFinal } from './types';

export interface AttachListener {
  /** @param position - position of the first byte in the merged output. */
  output(bytes: Uint8Array, position: number): void;
  /** The connection is ready for input. Also called when it was made again. */
  connected(): void;
  /** @param since - when the connection was lost, in milliseconds since 1970 */
  lost(reason: string, since: number): void;
  /**
   * After a lost connection, input that was sent may not have arrived.
   *
   * @param bytes - how many bytes; null if the service does not know.
   */
  inputMissing(bytes: number | null): void;
  /** The service could not carry out a message. */
  refused(problem: ProblemBody): void;
  ended(): void;
  /** No further attempt will be made. */
  failed(reason: string): void;
}

interface Start {
  position: number;
  stdin_offset: number | null;
}

/** A message may have 1 MiB. Smaller ones let resizes and keys pass between the parts of a paste. */
const MAX_MESSAGE_BYTES = 64 << 10;
/** If more input than this waits in the browser, further input is refused. */
const MAX_WAITING_BYTES = 4 << 20;
/** After this many attempts in a row that the service refused although it responds, give up. */
const MAX_REFUSALS = 4;

export class Attachment {
  readonly #id: string;
  readonly #listener: AttachListener;
  readonly #closed = new AbortController();
  #position: number;
  #socket: WebSocket | null = null;
  #ready = false;
  #size: { rows: number; cols: number } | null = null;
  /** input that the service had accepted at the last start, and bytes that were sent since then */
  #acceptedAtStart: number | null = null;
  #sent = 0;

  /** @param after - position in the merged output at which to begin. */
  constructor(id: string, after: number, listener: AttachListener) {
    this.#id = id;
    this.#position = after;
    this.#listener = listener;
    addEventListener('offline', this.#drop);
    void this.#run();
  }

  get ready(): boolean {
    return this.#ready;
  }

  /** Send input. Return false if nothing was sent, because there is no connection or too much waits. */
  send(bytes: Uint8Array<ArrayBuffer>): boolean {
    const socket = this.#socket;
    if (!this.#ready || !socket || socket.bufferedAmount + bytes.length > MAX_WAITING_BYTES) return false;
    for (let at = 0; at < bytes.length; at += MAX_MESSAGE_BYTES) socket.send(bytes.subarray(at, at + MAX_MESSAGE_BYTES));
    this.#sent += bytes.length;
    return true;
  }

  /** Set the size of the command's terminal, also again after the connection was lost. */
  resize(rows: number, cols: number): void {
    this.#size = { rows, cols };
    if (this.#ready) this.#socket?.send(JSON.stringify({ resize: this.#size }));
  }

  /** Leave the command. It continues. */
  close(): void {
    this.#closed.abort();
    removeEventListener('offline', this.#drop);
    this.#socket?.close();
    this.#socket = null;
    this.#ready = false;
  }

  // A browser notices a dead connection only after minutes, but knows at once that it is offline.
  readonly #drop = () => this.#socket?.close();

  async #run(): Promise<void> {
    const { signal } = this.#closed;
    let failures = 0;
    let refusals = 0;
    let lostSince = 0;
    while (!signal.aborted) {
      let reason: string;
      try {
        const { started, ended } = await this.#connect();
        if (signal.aborted) return;
        if (ended) return this.#finish(() => this.#listener.ended());
        if (started) failures = refusals = 0;
        // A browser does not tell why a WebSocket was refused, so ask for the command.
        const command = await getCommand(this.#id, signal);
        if (isFinal(command.status)) return this.#finish(() => this.#listener.ended());
        if (!started && ++refusals === MAX_REFUSALS) throw new Error('The service, or a proxy before it, refuses the WebSocket.');
        reason = 'The connection was lost.';
      } catch (error) {
        if (signal.aborted) return;
        if (!isTemporary(error)) return this.#finish(() => this.#listener.failed(messageOf(error)));
        reason = messageOf(error);
      }
      if (failures++ === 0) lostSince = Date.now();
      this.#listener.lost(reason, lostSince);
      await sleep(failures === 1 ? 200 : retryDelay(failures - 1, 1000), signal);
    }
  }

  #finish(report: () => void): void {
    this.close();
    report();
  }

  /**
   * Connect, and pass messages on until the connection ends.
   *
   * @returns whether it had started, and whether the command has ended.
   * @throws Problem or Error: a message is wrong, and would be wrong again.
   */
  #connect(): Promise<{ started: boolean; ended: boolean }> {
    return new Promise((resolve, reject) => {
      const address = new URL(`/v1/commands/${this.#id}/attach?after=${this.#position}`, location.href);
      address.protocol = address.protocol.replace('http', 'ws');
      const socket = new WebSocket(address);
      this.#socket = socket;
      socket.binaryType = 'arraybuffer';
      let started = false;
      let ended = false;
      socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
        if (this.#socket !== socket) return;
        try {
          if (typeof data !== 'string') return this.#receive(new Uint8Array(data));
          const message = JSON.parse(data) as { start?: Start; end?: CommandEvent; error?: ProblemBody };
          if (message.start) {
            started = true;
            this.#start(message.start);
          } else if (message.end) ended = true;
          else if (message.error) this.#listener.refused(message.error);
        } catch (error) {
          socket.close();
          reject(error instanceof Problem || error instanceof Unreachable ? error : new Error(messageOf(error)));
        }
      };
      socket.onclose = () => {
        if (this.#socket === socket) {
          this.#socket = null;
          this.#ready = false;
        }
        resolve({ started, ended });
      };
    });
  }

  #receive(bytes: Uint8Array): void {
    const position = this.#position;
    this.#position += bytes.length;
    this.#listener.output(bytes, position);
  }

  #start(start: Start): void {
    if (start.position !== this.#position) {
      throw new Error(`cannot continue at ${this.#position}: the next output is at ${start.position}`);
    }
    const missing = missingInput(this.#acceptedAtStart, this.#sent, start.stdin_offset);
    this.#acceptedAtStart = start.stdin_offset;
    this.#sent = 0;
    this.#ready = true;
    if (this.#size) this.resize(this.#size.rows, this.#size.cols);
    this.#listener.connected();
    if (missing !== 0) this.#listener.inputMissing(missing);
  }
}

/**
 * Return how many bytes of input did not arrive over a connection that was lost, null if unknown.
 *
 * @param before - input that was accepted when that connection started; null if unknown.
 * @param sent - bytes that were sent over it.
 * @param now - input that is accepted now; null if unknown. Other clients may have sent some of it.
 */
export function missingInput(before: number | null, sent: number, now: number | null): number | null {
  if (sent === 0) return 0;
  return before === null || now === null ? null : Math.max(0, before + sent - now);
}
