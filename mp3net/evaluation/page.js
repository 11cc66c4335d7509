// The players: one sound at a time, a cursor that follows it, and a picture that seeks, by pointer and by keyboard.
"use strict";
document.documentElement.classList.add("scripted");

const clock = (at, length) => {
  if (length < 10) return at.toFixed(1);
  const whole = Math.floor(at);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

let sounding = null; // the one that plays

for (const song of document.querySelectorAll(".song")) {
  const [audio, button, action, slider, now] = ["audio", ".play", ".action", ".seek", ".now"].map((name) => song.querySelector(name));
  const seconds = Number(song.dataset.seconds);
  const length = slider.getAttribute("aria-valuetext").split(" of ")[1];
  const step = Math.min(5, seconds / 20);

  const show = () => {
    const at = Math.min(audio.currentTime, seconds);
    slider.style.setProperty("--at", at / seconds);
    slider.setAttribute("aria-valuenow", at.toFixed(2));
    slider.setAttribute("aria-valuetext", `${clock(at, seconds)} of ${length}`);
    now.textContent = clock(at, seconds);
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const seek = (to) => {
    song.classList.add("begun");
    audio.currentTime = Math.max(0, Math.min(to, seconds - 0.01));
    show();
  };
  const warn = () => {
    const line = document.createElement("p");
    line.textContent = "This browser does not play this sound. Make the page with --format mp3, or open it in another browser.";
    song.querySelector(".warnings").replaceChildren(line);
  };
  const toggle = () => {
    if (!audio.paused) return audio.pause();
    if (audio.ended) audio.currentTime = 0;
    audio.play().catch((error) => error.name === "NotSupportedError" && warn());
  };

  audio.addEventListener("play", () => {
    if (sounding && sounding !== audio) sounding.pause();
    sounding = audio;
    song.classList.add("playing", "begun");
    action.textContent = "Pause";
    follow();
  });
  audio.addEventListener("pause", () => {
    song.classList.remove("playing");
    action.textContent = "Play";
    show();
  });
  for (const name of ["seeked", "timeupdate"]) audio.addEventListener(name, show);
  button.addEventListener("click", toggle);

  const point = (event) => {
    const box = slider.getBoundingClientRect();
    seek((seconds * (event.clientX - box.left)) / box.width);
  };
  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    slider.setPointerCapture(event.pointerId);
    point(event);
  });
  slider.addEventListener("pointermove", (event) => slider.hasPointerCapture(event.pointerId) && point(event));
  slider.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = audio.currentTime;
    const moves = {
      ArrowRight: at + step, ArrowUp: at + step, ArrowLeft: at - step, ArrowDown: at - step,
      PageUp: at + 4 * step, PageDown: at - 4 * step, Home: 0, End: seconds,
    };
    if (event.key in moves) seek(moves[event.key]);
    else if (event.key === " " || event.key === "Enter") toggle();
    else return;
    event.preventDefault();
  });
}
