// The theme that was chosen here last; see src/ui/theme.ts.
try {
  const theme = JSON.parse(localStorage.getItem('offshoot.theme') ?? 'null');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is refused: the system's theme it is.
}
