// A picture with a layer over it, a click that names a pixel, and a mark where it was.

function source(model, name) {
  const bytes = model.get(name);
  return bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes])) : "";
}

function follow(model, name, image) {
  const show = () => {
    const before = image.src;
    image.src = source(model, name);
    image.style.visibility = image.src ? "visible" : "hidden";
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  };
  model.on(`change:${name}`, show);
  show();
}

function render({ model, el }) {
  const [frame, picture, layer, mark] = ["div", "img", "img", "div"].map((tag) => document.createElement(tag));
  frame.className = "nnti-canvas";
  Object.assign(frame.style, { position: "relative", lineHeight: "0", cursor: "crosshair" });
  Object.assign(picture.style, { width: "100%" });
  Object.assign(layer.style, {
    position: "absolute", left: "0", top: "0", width: "100%", height: "100%", imageRendering: "pixelated",
  });
  Object.assign(mark.style, {
    position: "absolute", width: "12px", height: "12px", margin: "-8px 0 0 -8px", borderRadius: "50%",
    border: "2px solid white", boxShadow: "0 0 0 2px black", pointerEvents: "none",
  });
  picture.alt = "image";
  layer.alt = "layer";
  picture.draggable = layer.draggable = false;
  frame.append(picture, layer, mark);
  el.append(frame);
  follow(model, "picture", picture);
  follow(model, "layer", layer);

  const fade = () => (layer.style.opacity = model.get("opacity"));
  model.on("change:opacity", fade);
  fade();

  const point = () => {
    const [x, y] = model.get("pixel");
    const [width, height] = model.get("size");
    mark.style.display = x < 0 ? "none" : "block";
    mark.style.left = `${((x + 0.5) / width) * 100}%`;
    mark.style.top = `${((y + 0.5) / height) * 100}%`;
  };
  model.on("change:pixel change:size", point);
  point();

  frame.addEventListener("click", (event) => {
    const box = frame.getBoundingClientRect();
    const [width, height] = model.get("size");
    const inside = (share, length) => Math.min(length - 1, Math.max(0, Math.floor(share * length)));
    model.set("pixel", [
      inside((event.clientX - box.left) / box.width, width),
      inside((event.clientY - box.top) / box.height, height),
    ]);
    model.save_changes();
  });
}

export default { render };
