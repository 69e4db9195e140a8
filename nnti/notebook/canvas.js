// A picture with a layer over it, a click that names a pixel, and a mark where it was.

const FRAME = `<div class="nnti-canvas" style="position: relative; line-height: 0; cursor: crosshair">
  <img alt="image" draggable="false" style="width: 100%">
  <img alt="layer" draggable="false"
    style="position: absolute; left: 0; top: 0; width: 100%; height: 100%; image-rendering: pixelated">
  <div style="position: absolute; width: 12px; height: 12px; margin: -8px 0 0 -8px; border-radius: 50%;
    border: 2px solid white; box-shadow: 0 0 0 2px black; pointer-events: none"></div>
</div>`;

function render({ model, el }) {
  el.innerHTML = FRAME;
  const frame = el.firstChild;
  const [picture, layer, mark] = frame.children;

  const follow = (names, show) => {
    names.forEach((name) => model.on(`change:${name}`, show));
    show();
  };
  const showBytes = (name, image) => () => {
    const bytes = model.get(name);
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = bytes?.byteLength ? URL.createObjectURL(new Blob([bytes])) : "";
    image.style.visibility = bytes?.byteLength ? "visible" : "hidden";
  };
  follow(["picture"], showBytes("picture", picture));
  follow(["layer"], showBytes("layer", layer));
  follow(["opacity"], () => (layer.style.opacity = model.get("opacity")));
  follow(["pixel", "size"], () => {
    const [x, y] = model.get("pixel");
    const [width, height] = model.get("size");
    mark.style.display = x < 0 ? "none" : "block";
    mark.style.left = `${((x + 0.5) / width) * 100}%`;
    mark.style.top = `${((y + 0.5) / height) * 100}%`;
  });

  frame.addEventListener("click", (event) => {
    const box = frame.getBoundingClientRect();
    const shares = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    const size = model.get("size");
    model.set("pixel", shares.map((share, axis) => Math.min(size[axis] - 1, Math.max(0, Math.floor(share * size[axis])))));
    model.save_changes();
  });
}

export default { render };
