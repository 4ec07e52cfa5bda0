/** Svelte attachment: take the focus when it appears, text selected. */
export function focused(element: HTMLElement): void {
  element.focus();
  if (element instanceof HTMLInputElement) element.select();
}

/** Svelte attachment: call back on Escape and on a press outside of an element. */
import type { Attachment } from 'svelte/attachments';

export function dismissible(close: (byKey: boolean) => void): Attachment<HTMLElement> {
  return (element) => {
    const press = (event: PointerEvent) => {
      if (!element.contains(event.target as Node)) close(false);
    };
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      close(true);
    };
    document.addEventListener('pointerdown', press, true);
    element.addEventListener('keydown', key);
    return () => {
      document.removeEventListener('pointerdown', press, true);
      element.removeEventListener('keydown', key);
    };
  };
}
