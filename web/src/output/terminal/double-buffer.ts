/**
 * Double buffering for the terminal: the screen that is shown, and the one that replaces it.
 *
 * A new width, filter or part of the output needs a new screen. The old one stays visible until the
 * new one is complete, so that nothing flickers.
 */
import type { Chunk, StreamName } from '../../api/types';
import { DARK, LIGHT } from './palette';
import { Screen } from './screen';

const MAX_COLS = 1000;
const SCROLLBAR_PX = 14;
/** The size of the host is measured again only after it has not changed for this long. */
const RESIZE_PAUSE_MS = 80;
/** Assumed size of a character, until a character was drawn and measured. */
const DEFAULT_CELL_PX = { width: 7.8, height: 18 };

/** How a screen shows the output. */
export interface DisplayOptions {
  wrap: boolean;
  dark: boolean;
  stream: StreamName | null;
  readAloud: boolean;
}

export class DoubleBuffer {
  /** the screen that is shown */
  current: Screen | null = null;
  #next: Screen | null = null;
  #closed = false;
  readonly #host: HTMLElement;
  readonly #options: () => DisplayOptions;
  readonly #onShown: (screen: Screen) => void;
  readonly #resize: ResizeObserver;

  /**
   * @param options - returns how the next screen shows the output.
   * @param onShown - called when another screen is shown.
   * @param onResized - called after the size of the host changed.
   */
  constructor(
    host: HTMLElement,
    options: () => DisplayOptions,
    onShown: (screen: Screen) => void,
    onResized: () => void,
  ) {
    this.#host = host;
    this.#options = options;
    this.#onShown = onShown;
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.#resize = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(onResized, RESIZE_PAUSE_MS);
    });
    this.#resize.observe(host);
  }

  /** The number of characters in a line. */
  get cols(): number {
    const cell = this.current?.cellWidth || this.#next?.cellWidth || DEFAULT_CELL_PX.width;
    const fittingCols = Math.max(20, Math.floor((this.#host.clientWidth - SCROLLBAR_PX - 8) / cell));
    if (this.#options().wrap) return fittingCols;
    const longest = Math.max(this.current?.longest ?? 0, fittingCols);
    return Math.min(MAX_COLS, longest === fittingCols ? fittingCols : longest + 1);
  }

  /** The number of lines that fit. */
  get rows(): number {
    const cell = this.current?.cellHeight || this.#next?.cellHeight || DEFAULT_CELL_PX.height;
    // If lines are not wrapped, a scroll bar takes room below the rows.
    const bar = this.#options().wrap ? 0 : SCROLLBAR_PX;
    return Math.max(4, Math.floor((this.#host.clientHeight - bar) / cell));
  }

  /** Write to the screen that is shown and to the one that replaces it. */
  write(chunk: Chunk): void {
    this.current?.write(chunk);
    this.#next?.write(chunk);
  }

  /**
   * Draw chunks on a new screen and show it when it is complete.
   *
   * @param scroll - scrolls the new screen before it is shown.
   * @returns the new screen, or null if a later call replaced this call meanwhile.
   */
  async draw(
    chunks: Chunk[],
    scroll: (next: Screen, old: Screen | null) => void,
  ): Promise<Screen | null> {
    this.#next?.dispose();
    this.#next = null;
    const screen = this.#createScreen();
    this.#next = screen;
    screen.element.classList.add('preparing');
    for (const chunk of chunks) screen.write(chunk);
    await screen.waitUntilDrawn();
    if (this.#next !== screen || this.#closed) return null;
    this.#next = null;
    const old = this.current;
    scroll(screen, old);
    this.current = screen;
    screen.element.classList.remove('preparing');
    old?.dispose();
    this.#onShown(screen);
    return screen;
  }

  #createScreen(): Screen {
    const { dark, stream, readAloud } = this.#options();
    const options = {
      cols: this.cols,
      rows: this.rows,
      theme: dark ? DARK : LIGHT,
      stream,
      readAloud,
    };
    const screen = new Screen(this.#host, options);
    if (this.current || this.#next) return screen;
    // The size of a character is only known after a screen exists. If it differs from the assumed
    // size, the screen is made again.
    this.#next = screen;
    const { cols, rows } = this;
    this.#next = null;
    if (cols === options.cols && rows === options.rows) return screen;
    screen.dispose();
    return new Screen(this.#host, { ...options, cols, rows });
  }

  /** Apply the colours. Return whether a screen that was being drawn was dropped. */
  updateColours(): boolean {
    if (this.current) this.current.terminal.options.theme = this.#options().dark ? DARK : LIGHT;
    const dropped = this.#next !== null;
    this.#next?.dispose();
    this.#next = null;
    return dropped;
  }

  close(): void {
    this.#closed = true;
    this.#resize.disconnect();
    this.#next?.dispose();
    this.current?.dispose();
  }
}
