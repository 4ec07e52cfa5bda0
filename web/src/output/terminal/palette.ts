/** ANSI colours for the terminal. Each has a contrast of at least 4.5:1 with its background. */
import type { ISearchOptions } from '@xterm/addon-search';
import type { ITheme } from '@xterm/xterm';

export const DARK: ITheme = {
  background: '#0f1214',
  foreground: '#d8dcdf',
  cursor: '#0f1214',
  selectionBackground: '#2d4a77',
  black: '#7d868c',
  red: '#ff7b72',
  green: '#6cc57c',
  yellow: '#dfb34c',
  blue: '#79aefb',
  magenta: '#cf9bf5',
  cyan: '#5cc5cf',
  white: '#c4cacf',
  brightBlack: '#8d969d',
  brightRed: '#ffa198',
  brightGreen: '#8fdc9b',
  brightYellow: '#f2cf7d',
  brightBlue: '#a5c9ff',
  brightMagenta: '#e0bcff',
  brightCyan: '#8adfe6',
  brightWhite: '#ffffff',
  scrollbarSliderBackground: '#ffffff26',
  scrollbarSliderHoverBackground: '#ffffff40',
  scrollbarSliderActiveBackground: '#ffffff59',
};

export const LIGHT: ITheme = {
  background: '#fcfcfb',
  foreground: '#23272b',
  cursor: '#fcfcfb',
  selectionBackground: '#bcd4fb',
  black: '#23272b',
  red: '#b4232a',
  green: '#1b6e34',
  yellow: '#805800',
  blue: '#1c55b8',
  magenta: '#8236ad',
  cyan: '#0b6470',
  white: '#5c646b',
  brightBlack: '#626a71',
  brightRed: '#c4302f',
  brightGreen: '#257a3e',
  brightYellow: '#8a6100',
  brightBlue: '#2862c9',
  brightMagenta: '#9143bd',
  brightCyan: '#136f7c',
  brightWhite: '#4a5157',
  scrollbarSliderBackground: '#00000026',
  scrollbarSliderHoverBackground: '#00000040',
  scrollbarSliderActiveBackground: '#00000059',
};

/** Return the colours of search matches and of the current match. */
export function matchColours(dark: boolean): NonNullable<ISearchOptions['decorations']> {
  return {
    matchBackground: dark ? '#4a4317' : '#fdf0b5',
    matchOverviewRuler: '#b58a00',
    activeMatchBackground: dark ? '#8a5a00' : '#ffc766',
    activeMatchColorOverviewRuler: '#ff9500',
  };
}
