// A cloud of points on a canvas: a camera, and two ways to draw what it sees. WebGL draws 20,000 points in the blink of
// an eye; where a browser has none, canvas 2-D does. Points lie in the cube from -1 to 1; a plane is its middle. A cloud
// has places to start from and to end at (16 bits a coordinate), looks (red, green, blue and mark of each point), colors
// (the same for CSS), and the order in which points are drawn.

const DISTANCE = 3.5; // of the eye from the middle of the cube: a mild perspective
const MARKS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "dot"];

// Corners of each mark that is not round, y upwards; for the legend and for canvas 2-D.
const CORNERS = {
  square: [[-0.75, -0.75], [0.75, -0.75], [0.75, 0.75], [-0.75, 0.75]],
  "triangle-up": [[0, 0.95], [0.9, -0.7], [-0.9, -0.7]],
  diamond: [[0, 0.98], [0.98, 0], [0, -0.98], [-0.98, 0]],
  "triangle-down": [[0, -0.95], [-0.9, 0.7], [0.9, 0.7]],
  cross: plus(0),
  x: plus(Math.PI / 4),
};

function plus(turn) {
  const [arm, half] = [0.95, 0.32];
  const corners = [[half, half], [half, arm], [-half, arm], [-half, half], [-arm, half], [-arm, -half], [-half, -half],
    [-half, -arm], [half, -arm], [half, -half], [arm, -half], [arm, half]];
  const [sine, cosine] = [Math.sin(turn), Math.cos(turn)];
  return corners.map(([x, y]) => [x * cosine - y * sine, x * sine + y * cosine]);
}

// ---- Camera

/** Where the reader looks from: pan in halves of the canvas, zoom, and in space a rotation. */
function newCamera() {
  return { panX: 0, panY: 0, zoom: 1, turn: [1, 0, 0, 0, 1, 0, 0, 0, 1] };
}

/** Turn a camera by angles about the vertical and the horizontal axis of the screen. */
function turnCamera(camera, across, down) {
  const [s, c, t, d] = [Math.sin(across), Math.cos(across), Math.sin(down), Math.cos(down)];
  const by = [c, 0, s, t * s, d, -t * c, -d * s, t, d * c];
  const old = camera.turn;
  camera.turn = by.map((_, at) => {
    const row = 3 * Math.floor(at / 3);
    return by[row] * old[at % 3] + by[row + 1] * old[3 + (at % 3)] + by[row + 2] * old[6 + (at % 3)];
  });
}

/** Magnify so that what lies under (x, y), in halves of the canvas, stays there. */
function zoomCamera(camera, factor, x = 0, y = 0) {
  const zoom = Math.min(Math.max(camera.zoom * factor, 0.5), 60);
  const real = zoom / camera.zoom;
  camera.panX = (x + camera.panX) * real - x;
  camera.panY = (y + camera.panY) * real - y;
  camera.zoom = zoom;
}

/** The camera as a matrix, column by column, as WebGL wants it. */
function cameraMatrix({ panX, panY, zoom, turn }, width, height, inSpace) {
  const least = Math.min(width, height);
  const fit = zoom * (inSpace ? 0.82 : 0.94);
  const [across, up] = [(fit * least) / width, (fit * least) / height];
  if (!inSpace) return [across, 0, 0, 0, 0, up, 0, 0, 0, 0, 0, 0, -panX, -panY, 0, 1];
  const columns = [0, 1, 2].flatMap((axis) => {
    const [x, y, z] = [turn[axis], turn[3 + axis], turn[6 + axis]];
    const away = -z / DISTANCE;
    return [across * x - panX * away, up * y - panY * away, -0.57 * z, away];
  });
  return [...columns, -panX, -panY, 0.5, 1];
}

// ---- Drawing

/** Software that draws WebGL on the processor: 20,000 points take it three times as long as canvas 2-D. */
const SOFTWARE = /swiftshader|llvmpipe|software/i;

/** The best painter for this canvas; `kind` says which it is. */
function makePainter(canvas) {
  const gl = canvas.getContext("webgl", { alpha: true, antialias: false, depth: true, powerPreference: "low-power" });
  if (gl) {
    try {
      const naming = gl.getExtension("WEBGL_debug_renderer_info");
      const renderer = naming ? gl.getParameter(naming.UNMASKED_RENDERER_WEBGL) : "";
      if (SOFTWARE.test(renderer)) throw new Error(`only in software, by ${renderer}`);
      return makeWebglPainter(canvas, gl);
    } catch (error) {
      console.warn("gelora_viz: no WebGL,", error.message);
      const other = canvas.cloneNode(); // a canvas keeps the kind of its first context
      canvas.replaceWith(other);
      return makeCanvasPainter(other);
    }
  }
  return makeCanvasPainter(canvas);
}

const VERTEX_SHADER = `
attribute vec3 start;
attribute vec3 end;
attribute vec4 look; // red, green, blue, number of the mark
uniform mat4 camera;
uniform float progress;
uniform float size;
varying vec3 color;
varying float mark;
varying float radius;
varying float nearness;
void main() {
  gl_Position = camera * vec4(mix(start, end, progress) * 2.0 - 1.0, 1.0);
  gl_PointSize = size / gl_Position.w;
  radius = gl_PointSize / 2.0;
  color = look.rgb;
  mark = floor(look.a * 255.0 + 0.5);
  nearness = clamp(1.5 - gl_Position.w, 0.0, 1.0);
}`;

const FRAGMENT_SHADER = `
precision mediump float;
varying vec3 color;
varying float mark;
varying float radius;
varying float nearness;
uniform float opacity;
uniform float fog; // how much fainter the far end of space is
float plus(vec2 p) {
  p = abs(p);
  return min(max(p.x - 0.32, p.y - 0.95), max(p.x - 0.95, p.y - 0.32));
}
float outside(vec2 p) { // distance from the mark's edge, negative within
  if (mark < 0.5) return length(p) - 0.9;
  if (mark < 1.5) return max(abs(p.x), abs(p.y)) - 0.75;
  if (mark < 2.5) return max(-p.y - 0.7, 0.88 * abs(p.x) + 0.48 * p.y - 0.45);
  if (mark < 3.5) return 0.7 * (abs(p.x) + abs(p.y) - 0.98);
  if (mark < 4.5) return max(p.y - 0.7, 0.88 * abs(p.x) - 0.48 * p.y - 0.45);
  if (mark < 5.5) return plus(p);
  if (mark > 6.5) return length(p) - 0.55;
  return plus(0.7071 * vec2(p.x - p.y, p.x + p.y));
}
void main() {
  vec2 place = vec2(2.0, -2.0) * (gl_PointCoord - 0.5);
  float within = clamp(0.5 - outside(place) * radius, 0.0, 1.0);
  if (within < (fog > 0.0 ? 0.5 : 0.04)) discard; // in space a soft edge would hide what lies behind it
  gl_FragColor = vec4(color, within * opacity * mix(1.0, nearness, fog));
}`;

function makeWebglPainter(canvas, gl) {
  let program = null;
  let buffers = null;
  let cloud = null;
  let lost = false;

  function prepare() {
    program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "no program");
    gl.useProgram(program);
    if (!gl.getExtension("OES_element_index_uint")) throw new Error("no long indices");
    buffers = { start: gl.createBuffer(), end: gl.createBuffer(), look: gl.createBuffer(), order: gl.createBuffer() };
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  function load(newCloud) {
    cloud = newCloud;
    if (lost) return;
    const parts = { start: [cloud.start, 3, gl.UNSIGNED_SHORT], end: [cloud.end, 3, gl.UNSIGNED_SHORT],
      look: [cloud.looks, 4, gl.UNSIGNED_BYTE] };
    for (const [name, [data, size, kind]] of Object.entries(parts)) {
      const place = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, kind, true, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers.order);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, cloud.order, gl.STATIC_DRAW);
  }

  function paint({ matrix, progress, size, opacity, inSpace }) {
    if (!cloud || lost) return;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (inSpace) gl.enable(gl.DEPTH_TEST);
    else gl.disable(gl.DEPTH_TEST);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "camera"), false, matrix);
    for (const [name, value] of Object.entries({ progress, size, opacity, fog: inSpace ? 0.5 : 0 })) {
      gl.uniform1f(gl.getUniformLocation(program, name), value);
    }
    gl.drawElements(gl.POINTS, cloud.order.length, gl.UNSIGNED_INT, 0);
  }

  prepare();
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    lost = true;
  });
  const painter = { kind: "WebGL", canvas, load, paint, onRestored: () => {}, leave };
  canvas.addEventListener("webglcontextrestored", () => {
    lost = false;
    prepare();
    if (cloud) load(cloud);
    painter.onRestored();
  });

  /** A page has few WebGL contexts to give: hand this one back. */
  function leave() {
    lost = true;
    gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
  return painter;
}

function makeCanvasPainter(canvas) {
  const pen = canvas.getContext("2d");
  let cloud = null;

  function paint({ matrix, progress, size, opacity, inSpace }) {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!cloud) return;
    const places = placePoints(cloud, progress, matrix, canvas.width, canvas.height);
    const order = inSpace ? cloud.order.slice() : cloud.order;
    if (inSpace) order.sort((a, b) => places[3 * b + 2] - places[3 * a + 2]);
    pen.globalAlpha = opacity;
    let last = null;
    for (const at of order) {
      const [x, y, away] = [places[3 * at], places[3 * at + 1], places[3 * at + 2]];
      const radius = size / away / 2;
      if (x < -radius || y < -radius || x > canvas.width + radius || y > canvas.height + radius) continue;
      const color = cloud.colors[at];
      if (color !== last) pen.fillStyle = last = color;
      drawMark(pen, MARKS[cloud.looks[4 * at + 3]], x, y, radius);
    }
  }
  return { kind: "canvas 2-D", canvas, load: (newCloud) => (cloud = newCloud), paint, onRestored: () => {}, leave: () => {} };
}

function drawMark(pen, mark, x, y, radius) {
  if (radius < 2.5) {
    pen.fillRect(x - 0.8 * radius, y - 0.8 * radius, 1.6 * radius, 1.6 * radius); // too small for a form, and quick
    return;
  }
  pen.beginPath();
  if (!CORNERS[mark]) pen.arc(x, y, (mark === "dot" ? 0.55 : 0.9) * radius, 0, 2 * Math.PI);
  else CORNERS[mark].forEach(([across, up], at) => pen[at ? "lineTo" : "moveTo"](x + across * radius, y - up * radius));
  pen.fill();
}

/** Pixels from the left and from the top, and how far away each point is, one after the other. */
function placePoints({ start, end }, progress, m, width, height) {
  const places = new Float32Array(end.length);
  for (let at = 0; at < end.length; at += 3) {
    const x = (start[at] + progress * (end[at] - start[at])) / 32767.5 - 1;
    const y = (start[at + 1] + progress * (end[at + 1] - start[at + 1])) / 32767.5 - 1;
    const z = (start[at + 2] + progress * (end[at + 2] - start[at + 2])) / 32767.5 - 1;
    const away = m[3] * x + m[7] * y + m[11] * z + m[15];
    places[at] = ((m[0] * x + m[4] * y + m[8] * z + m[12]) / away + 1) * 0.5 * width;
    places[at + 1] = (1 - (m[1] * x + m[5] * y + m[9] * z + m[13]) / away) * 0.5 * height;
    places[at + 2] = away;
  }
  return places;
}

/** The row of the point nearest to a pixel, at most `reach` away; -1 where there is none. */
function nearestPoint(places, x, y, reach) {
  let [found, least] = [-1, reach * reach];
  for (let at = 0; at < places.length; at += 3) {
    const [across, down] = [places[at] - x, places[at + 1] - y];
    const square = across * across + down * down;
    if (square < least) [found, least] = [at / 3, square];
  }
  return found;
}
