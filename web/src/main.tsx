import { QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { live } from './live';
import { queries } from './queries';
import { router } from './routes';
import { install } from './shell/install';
import './ui/style.css';

// Asked for before anything is drawn: the board waits for this and nothing else.
live.start();
install();

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={queries}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </StrictMode>,
  );
}
