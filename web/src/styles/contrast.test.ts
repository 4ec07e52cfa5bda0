import { readFileSync } from 'node:fs';
import type { ITheme } from '@xterm/xterm';
import { expect, test } from 'vitest';
import { DARK, LIGHT } from '../output/terminal/palette';

function luminance(colour: string): number {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const part = parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: string, other: string): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

const css = readFileSync(new URL('tokens.css', import.meta.url), 'utf8');
function tokens(block: RegExp): Map<string, string> {
  const body = block.exec(css)?.[1] ?? '';
  return new Map([...body.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map((found) => [found[1]!, found[2]!]));
}
const light = tokens(/^:root \{([^}]*)\}/m);
const dark = tokens(/^:root\[data-theme='dark'\] \{([^}]*)\}/m);
const system = tokens(/:root:not\(\[data-theme='light'\]\) \{([^}]*)\}/);

const TEXT = ['text', 'muted', 'accent', 'danger', 'running', 'queued', 'succeeded', 'failed', 'stopped', 'lost'].concat(
  ['comment', 'string', 'keyword', 'variable', 'number', 'builtin'].map((name) => `code-${name}`),
);
const GROUNDS = ['ground', 'surface', 'raised'];

test('the dark colours are the same for the system and for the reader', () => expect([...system]).toEqual([...dark]));

for (const [name, theme] of [['light', light], ['dark', dark]] as const) {
  test.each(TEXT)(`%s is readable in ${name}`, (token) => {
    for (const ground of GROUNDS) {
      expect(contrast(theme.get(token)!, theme.get(ground)!), `on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
  });
  test(`buttons, rows and field borders are visible in ${name}`, () => {
    const of = (one: string, other: string) => contrast(theme.get(one)!, theme.get(other)!);
    expect(of('on-accent', 'accent')).toBeGreaterThanOrEqual(4.5);
    expect(of('on-danger', 'danger')).toBeGreaterThanOrEqual(4.5);
    expect(of('surface', 'stopped')).toBeGreaterThanOrEqual(4.5);
    for (const ground of ['hover', 'accent-ground', 'danger-ground']) expect(of('text', ground)).toBeGreaterThanOrEqual(4.5);
    for (const token of ['muted', 'running', 'failed', 'stopped', 'lost']) expect(of(token, 'hover')).toBeGreaterThanOrEqual(4.5);
    expect(of('line-strong', 'surface')).toBeGreaterThanOrEqual(3);
  });
}

const COLOURS = ['red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white', 'black'].flatMap((name) => [
  name,
  `bright${name[0]!.toUpperCase()}${name.slice(1)}`,
]) as (keyof ITheme)[];

test.each(['foreground' as const, ...COLOURS])('%s is readable in the terminal', (colour) => {
  for (const theme of [DARK, LIGHT]) {
    expect(contrast(theme[colour] as string, theme.background!)).toBeGreaterThanOrEqual(4.5);
  }
});
