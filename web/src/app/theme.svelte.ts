/** Light or dark: as the system says, until the reader says otherwise. Kept in this browser. */
type Choice = 'system' | 'light' | 'dark';
type Terminal = 'dark' | 'page';

const system = matchMedia('(prefers-color-scheme: dark)');
let systemDark = $state(system.matches);
system.addEventListener('change', () => (systemDark = system.matches));

function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // Refused by the browser: then it holds as long as the page.
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // As above.
  }
}

const known = stored('theme');
let choice = $state<Choice>(known === 'light' || known === 'dark' ? known : 'system');
let terminal = $state<Terminal>(stored('terminal') === 'page' ? 'page' : 'dark');

function apply(): void {
  if (choice === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}
apply();

export const theme = {
  get dark(): boolean {
    return choice === 'system' ? systemDark : choice === 'dark';
  },
  toggle(): void {
    const next = this.dark ? 'light' : 'dark';
    // Back to what the system says is following it again.
    choice = next === (systemDark ? 'dark' : 'light') ? 'system' : next;
    keep('theme', choice);
    apply();
  },
  /** The terminal is dark unless it is to be like the page. */
  get terminalDark(): boolean {
    return terminal === 'dark' || this.dark;
  },
  get terminalFollowsPage(): boolean {
    return terminal === 'page';
  },
  toggleTerminal(): void {
    terminal = terminal === 'dark' ? 'page' : 'dark';
    keep('terminal', terminal);
  },
};
