// Runs before anything is painted, so that no page flashes in the other theme. Without a choice the system's holds.
{
  const chosen = localStorage.getItem("predlog-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
