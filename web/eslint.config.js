import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import { defineConfig, globalIgnores } from 'eslint/config';
import ts from 'typescript-eslint';

export default defineConfig(
  globalIgnores(['dist', 'public', 'test-results', 'playwright-report', 'src/api/schema.d.ts']),
  js.configs.recommended,
  {
    files: ['**/*.{ts,tsx}'],
    extends: [ts.configs.strictTypeChecked, ts.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // A handler may be async: what fails in it is shown by the mutation that it starts.
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { attributes: false } }],
    },
  },
  {
    files: ['src/**/*.{ts,tsx}'],
    extends: [hooks.configs.flat.recommended],
    rules: {
      // Text from agents is hostile: it becomes text nodes, and nothing else makes HTML.
      'no-restricted-syntax': [
        'error',
        { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: 'Text is shown as text.' },
        {
          selector: 'MemberExpression[property.name=/^(inner|outer)HTML$/]',
          message: 'Text is shown as text.',
        },
      ],
    },
  },
  {
    // Only `api` and `live` talk to the daemon.
    files: ['src/**/*.{ts,tsx}'],
    ignores: ['src/api/**', 'src/live/**', 'src/terminal/**'],
    rules: { 'no-restricted-globals': ['error', 'fetch', 'EventSource', 'WebSocket', 'XMLHttpRequest'] },
  },
);
