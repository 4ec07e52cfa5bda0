/**
 * The terminal that is on the screen, and the one that is drawn out of sight to take its place.
 *
 * Another width, filter or part of the output is a new terminal: the old one stays until the new
 * one is complete, so that nothing flickers.
 */
import type { StreamName } from '../../api/types';
import type { Chunk } from '../chunks';
import { DARK, LIGHT } from './palette';
import { Screen } from './screen';

const WIDEST_COLS = 1000;
const SCROLLBAR_PX = 14;
/** Size of a character before one was seen. */
const CELL_PX = { width: 7.8, height: 18 };

/** How the output is shown. */
export interface Look {
  wrap: boolean;
  dark: boolean;
  stream: StreamName | null;
  readAloud: boolean;
}

export class Stage {
  /** what is on the screen */
  current: Screen | null = null;
  #next: Screen | null = null;
  #closed = false;
  readonly #host: HTMLElement;
  readonly #look: () => Look;
  readonly #shown: (screen: Screen) => void;

  /**
   * @param look - says how the next one is to look.
   * @param shown - told at once when another one is on the screen.
   */
  constructor(host: HTMLElement, look: () => Look, shown: (screen: Screen) => void) {
    this.#host = host;
    this.#look = look;
    this.#shown = shown;
  }

  /** How many characters a line has. */
  get cols(): number {
    const cell = this.current?.cellWidth || this.#next?.cellWidth || CELL_PX.width;
    const fitting = Math.max(20, Math.floor((this.#host.clientWidth - SCROLLBAR_PX - 8) / cell));
    if (this.#look().wrap) return fitting;
    const longest = Math.max(this.current?.longest ?? 0, fitting);
    return Math.min(WIDEST_COLS, longest === fitting ? fitting : longest + 1);
  }

  /** How many lines fit. */
  get rows(): number {
    const cell = this.current?.cellHeight || this.#next?.cellHeight || CELL_PX.height;
    // Without wrapping a scroll bar lies under the rows.
    const bar = this.#look().wrap ? 0 : SCROLLBAR_PX;
    return Math.max(4, Math.floor((this.#host.clientHeight - bar) / cell));
  }

  /** Write to what is on the screen, and to what is to follow it. */
  write(chunk: Chunk): void {
    this.current?.write(chunk);
    this.#next?.write(chunk);
  }

  /**
   * Draw chunks on a new screen and show it.
   *
   * @param place - scrolls the new one, knowing the old one.
   * @returns null when another wish came meanwhile.
   */
  async draw(
    chunks: Chunk[],
    place: (next: Screen, old: Screen | null) => void,
  ): Promise<Screen | null> {
    this.#next?.dispose();
    this.#next = null;
    const screen = this.#make();
    this.#next = screen;
    screen.element.classList.add('preparing');
    for (const chunk of chunks) screen.write(chunk);
    await screen.drawn();
    if (this.#next !== screen || this.#closed) return null;
    this.#next = null;
    const old = this.current;
    place(screen, old);
    this.current = screen;
    screen.element.classList.remove('preparing');
    old?.dispose();
    this.#shown(screen);
    return screen;
  }

  #make(): Screen {
    const { dark, stream, readAloud } = this.#look();
    const options = {
      cols: this.cols,
      rows: this.rows,
      theme: dark ? DARK : LIGHT,
      stream,
      readAloud,
    };
    const screen = new Screen(this.#host, options);
    if (this.current || this.#next) return screen;
    // The first one tells how large a character is.
    this.#next = screen;
    const { cols, rows } = this;
    this.#next = null;
    if (cols === options.cols && rows === options.rows) return screen;
    screen.dispose();
    return new Screen(this.#host, { ...options, cols, rows });
  }

  /** Change the colours; returns whether one that was being drawn had to be dropped for it. */
  repaint(): boolean {
    if (this.current) this.current.terminal.options.theme = this.#look().dark ? DARK : LIGHT;
    const dropped = this.#next !== null;
    this.#next?.dispose();
    this.#next = null;
    return dropped;
  }

  close(): void {
    this.#closed = true;
    this.#next?.dispose();
    this.current?.dispose();
  }
}
