import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The service to develop against; its page is replaced by Vite's, the rest is its own.
const service = process.env.SCRIPTSERVICE_URL ?? 'http://127.0.0.1:8000';

export default defineConfig({
  plugins: [svelte()],
  build: {
    outDir: '../src/scriptservice/ui',
    emptyOutDir: true,
    target: 'es2022',
    // The policy of the page allows no inline script and no data: font or script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
    reportCompressedSize: false,
  },
  server: { proxy: { '/v1': service } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
