/** Syntax highlighting for bash. Loaded only when a script is shown or edited. */
import { HighlightStyle, StreamLanguage } from '@codemirror/language';
import { shell } from '@codemirror/legacy-modes/mode/shell';
import { highlightCode, tags } from '@lezer/highlight';

export const bash = StreamLanguage.define(shell);

export const colours = HighlightStyle.define([
  { tag: tags.comment, color: 'var(--code-comment)' },
  { tag: [tags.string, tags.special(tags.string)], color: 'var(--code-string)' },
  { tag: tags.keyword, color: 'var(--code-keyword)' },
  { tag: [tags.variableName, tags.definition(tags.variableName)], color: 'var(--code-variable)' },
  { tag: tags.number, color: 'var(--code-number)' },
  { tag: [tags.standard(tags.variableName), tags.attributeName], color: 'var(--code-builtin)' },
]);

/** Show a highlighted script in an element. The script is added as text, never as markup. */
export function showHighlighted(element: HTMLElement, script: string): void {
  const style = colours.module;
  if (style && !document.getElementById('code-colours')) {
    const sheet = document.createElement('style');
    sheet.id = 'code-colours';
    sheet.textContent = style.getRules();
    document.head.append(sheet);
  }
  const fragment = document.createDocumentFragment();
  highlightCode(
    script,
    bash.parser.parse(script),
    colours,
    (text, classes) => {
      if (!classes) return fragment.append(text);
      const span = document.createElement('span');
      span.className = classes;
      span.textContent = text;
      fragment.append(span);
    },
    () => fragment.append('\n'),
  );
  element.replaceChildren(fragment);
}
