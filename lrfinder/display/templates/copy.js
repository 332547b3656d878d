// The button copies the lines. Pages opened as files may have no clipboard, so a selection is copied there.
const button = document.getElementById("copy");
const status = document.getElementById("copied");
const lines = document.getElementById("lines");

function copySelection() {
  const range = document.createRange();
  range.selectNodeContents(lines);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
  const copied = document.execCommand("copy");
  if (copied) selection.removeAllRanges();
  return copied;
}

async function copy() {
  let copied = false;
  try {
    await navigator.clipboard.writeText(lines.textContent);
    copied = true;
  } catch {
    copied = copySelection();
  }
  status.textContent = copied ? "Copied." : "Selected: press Ctrl+C or Cmd+C to copy.";
}

if (button) button.addEventListener("click", copy);
