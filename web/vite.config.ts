import tailwind from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';
import { CSP } from './csp.ts';
import { proxy, running } from './daemon.ts';

export default defineConfig(({ command, isPreview }) => {
  const daemon = command === 'serve' && process.env['VITEST'] === undefined ? running() : undefined;
  if (command === 'serve' && daemon === undefined && process.env['VITEST'] === undefined) {
    console.warn(
      'no daemon on TCP: start one with `offshoot daemon start --tcp 127.0.0.1:0`, then this again',
    );
  }
  return {
    plugins: [react(), tailwind()],
    server: { host: '127.0.0.1', ...(daemon && { proxy: proxy(daemon) }) },
    preview: {
      host: '127.0.0.1',
      headers: isPreview ? { 'content-security-policy': CSP } : {},
      ...(daemon && { proxy: proxy(daemon) }),
    },
    build: {
      // Every script is a file of its own origin: nothing inline, not even small pictures.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
    },
    test: { include: ['src/**/*.test.ts'], environment: 'node' },
  };
});
