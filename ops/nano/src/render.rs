//! From a scene to its picture and, from the same rays, its exact depth, normals and owners.
//!
//! A pinhole camera at height [`EYE`] with focal length [`FOCAL`] pixels looks level; its optical axis leaves the picture above
//! the horizon line, so that upright things stay upright. The world ends at [`FAR`]: the ground reaches the horizon
//! there, and the sky has that depth.

use super::geometry::{Solid, Vec3};
use super::palette::{self, Light, Rgb};
use super::person::{self, Joints};
use super::scene::{Backdrop, Object, SIDE, Scene, Shape, Time};

/// Focal length in pixels.
pub const FOCAL: f32 = 120.0;
/// Height of the camera above the ground in metres.
pub const EYE: f32 = 2.0;
/// Depth of the sky in metres.
pub const FAR: f32 = 10.0;
/// Nothing is nearer, in metres.
pub const NEAR: f32 = 3.25;
/// Owner of a sky pixel.
pub const SKY: u8 = 0;
/// Owner of a ground pixel.
pub const GROUND: u8 = 1;
/// Owner of the first object's pixels; the second's are one more.
pub const FIRST_OBJECT: u8 = 2;

/// Samples of a pixel along each side, where its surroundings differ.
const SAMPLES: usize = 3;
/// Towards the lamp: above, left, on the camera's side.
const LAMP: Vec3 = Vec3::new(-0.35, 0.8, -0.488);

/// A drawn scene; all lists have one entry a pixel, rows from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The picture, anti-aliased.
    pub picture: Vec<Rgb>,
    /// Depth along the optical axis in metres, at the middle of the pixel.
    pub depth: Vec<f32>,
    /// Unit normals: x right, y up, z towards the camera. Zero for the sky.
    pub normal: Vec<[f32; 3]>,
    /// [`SKY`], [`GROUND`], or [`FIRST_OBJECT`] plus the object's index.
    pub owner: Vec<u8>,
}

/// Where objects stand, from rows and columns of the picture.
#[derive(Debug, Clone, Copy)]
pub struct Camera {
    /// Row of the optical axis.
    axis: f32,
}

impl Camera {
    /// The camera whose ground ends at `horizon`.
    #[must_use]
    pub fn new(horizon: f32) -> Self {
        Self { axis: horizon - FOCAL * EYE / FAR }
    }

    /// Depth of the ground in a row.
    #[must_use]
    pub fn depth_of(self, row: f32) -> f32 {
        FOCAL * EYE / (row - self.axis)
    }

    /// The point of the ground at a row and column.
    #[must_use]
    pub fn ground(self, column: f32, row: f32) -> Vec3 {
        let depth = self.depth_of(row);
        Vec3::new((column - SIDE as f32 / 2.0) * depth / FOCAL, -EYE, depth)
    }

    /// Column and row of a point.
    #[must_use]
    pub fn project(self, p: Vec3) -> [f32; 2] {
        [SIDE as f32 / 2.0 + FOCAL * p.x / p.z, self.axis - FOCAL * p.y / p.z]
    }

    fn ray(self, x: f32, y: f32) -> Vec3 {
        Vec3::new((x - SIDE as f32 / 2.0) / FOCAL, (self.axis - y) / FOCAL, 1.0)
    }

    /// The joints of a person.
    #[must_use]
    pub fn joints(self, object: &Object) -> Joints<Vec3> {
        let foot = self.ground(object.column, object.row);
        person::joints(foot, 3.0 * object.width * foot.z / FOCAL, &object.body)
    }
}

/// One solid, ready to be met by rays.
struct Part {
    solid: Solid,
    owner: u8,
    colour: Rgb,
    /// Columns and rows outside of which no ray meets it.
    low: [f32; 2],
    high: [f32; 2],
}

struct Shadow {
    centre: Vec3,
    reach: [f32; 2],
}

/// What one ray sees.
#[derive(Clone, Copy, PartialEq)]
struct Sample {
    colour: Rgb,
    depth: f32,
    normal: [f32; 3],
    owner: u8,
}

struct Stage {
    camera: Camera,
    backdrop: Backdrop,
    time: Time,
    horizon: f32,
    parts: Vec<Part>,
    shadows: Vec<Shadow>,
}

/// Draws a scene.
#[must_use]
pub fn draw(scene: &Scene) -> Drawn {
    let stage = Stage::new(scene);
    let middles: Vec<Sample> = (0..SIDE * SIDE)
        .map(|at| stage.sample((at % SIDE) as f32 + 0.5, (at / SIDE) as f32 + 0.5))
        .collect();
    let picture = (0..SIDE * SIDE).map(|at| {
        if is_plain(&middles, at) { middles[at].colour } else { stage.smooth(at % SIDE, at / SIDE) }
    });
    Drawn {
        picture: picture.collect(),
        depth: middles.iter().map(|s| s.depth).collect(),
        normal: middles.iter().map(|s| s.normal).collect(),
        owner: middles.iter().map(|s| s.owner).collect(),
    }
}

/// Whether a pixel and all around it have one colour.
fn is_plain(middles: &[Sample], at: usize) -> bool {
    let (x, y) = (at % SIDE, at / SIDE);
    let rows = y.saturating_sub(1)..(y + 2).min(SIDE);
    rows.into_iter().all(|row| {
        let columns = x.saturating_sub(1)..(x + 2).min(SIDE);
        columns.into_iter().all(|column| middles[row * SIDE + column].colour == middles[at].colour)
    })
}

impl Stage {
    fn new(scene: &Scene) -> Self {
        let mut stage = Self {
            camera: Camera::new(scene.horizon),
            backdrop: scene.backdrop,
            time: scene.time(),
            horizon: scene.horizon,
            parts: Vec::new(),
            shadows: Vec::new(),
        };
        for (i, object) in scene.objects.iter().enumerate() {
            stage.add(object, FIRST_OBJECT + i as u8);
        }
        stage
    }

    fn add(&mut self, object: &Object, owner: u8) {
        let foot = self.camera.ground(object.column, object.row);
        let width = object.width * foot.z / FOCAL;
        let colour = palette::rgb(object.colour);
        if object.shape == Shape::Person {
            let solids = person::solids(&self.camera.joints(object), 3.0 * width);
            for (i, solid) in solids.into_iter().enumerate() {
                self.part(solid, owner, if i == 0 { palette::SKIN } else { colour });
            }
        } else {
            self.part(thing(object, foot, width), owner, colour);
        }
        let spread = if object.shape == Shape::Cylinder { 0.5 } else { 0.56 };
        let lean = Vec3::new(0.14 * width, 0.0, 0.06 * width);
        let reach = [spread * width, 0.42 * width];
        self.shadows.push(Shadow { centre: foot.plus(lean), reach });
    }

    fn part(&mut self, solid: Solid, owner: u8, colour: Rgb) {
        let (a, b) = solid.bounds();
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for corner in 0..8 {
            let pick = |bit: usize, a: f32, b: f32| if corner >> bit & 1 == 0 { a } else { b };
            let point = Vec3::new(pick(0, a.x, b.x), pick(1, a.y, b.y), pick(2, a.z, b.z));
            let place = self.camera.project(point);
            for axis in 0..2 {
                low[axis] = low[axis].min(place[axis]);
                high[axis] = high[axis].max(place[axis]);
            }
        }
        self.parts.push(Part { solid, owner, colour, low, high });
    }

    fn sample(&self, x: f32, y: f32) -> Sample {
        let ray = self.camera.ray(x, y);
        let mut seen = self.background(ray, y);
        for part in &self.parts {
            if x < part.low[0] || x > part.high[0] || y < part.low[1] || y > part.high[1] {
                continue;
            }
            if let Some(hit) = part.solid.hit(ray).filter(|hit| hit.depth < seen.depth) {
                seen = Sample {
                    colour: palette::lit(part.colour, light(hit.normal), self.time),
                    depth: hit.depth,
                    normal: [hit.normal.x, hit.normal.y, -hit.normal.z],
                    owner: part.owner,
                };
            }
        }
        seen
    }

    fn background(&self, ray: Vec3, y: f32) -> Sample {
        if y <= self.horizon {
            let high = y < self.horizon / 2.0;
            let colour = palette::sky(self.backdrop, high);
            return Sample { colour, depth: FAR, normal: [0.0; 3], owner: SKY };
        }
        let depth = -EYE / ray.y;
        let point = ray.times(depth);
        let shadow = self.shadows.iter().any(|shadow| {
            let from = point.minus(shadow.centre);
            let (x, z) = (from.x / shadow.reach[0], from.z / shadow.reach[1]);
            x * x + z * z < 1.0
        });
        let colour = palette::ground(self.backdrop, shadow);
        Sample { colour, depth, normal: [0.0, 1.0, 0.0], owner: GROUND }
    }

    /// The mean of a pixel's samples.
    fn smooth(&self, x: usize, y: usize) -> Rgb {
        let mut sum = [0u16; 3];
        for i in 0..SAMPLES * SAMPLES {
            let inside = |n: usize| (n as f32 + 0.5) / SAMPLES as f32;
            let sample =
                self.sample(x as f32 + inside(i % SAMPLES), y as f32 + inside(i / SAMPLES));
            for (sum, value) in sum.iter_mut().zip(sample.colour) {
                *sum += u16::from(value);
            }
        }
        let n = (SAMPLES * SAMPLES) as u16;
        sum.map(|sum| ((sum + n / 2) / n) as u8)
    }
}

fn thing(object: &Object, foot: Vec3, width: f32) -> Solid {
    let up = |height: f32| foot.plus(Vec3::new(0.0, height, 0.0));
    let round = |bottom, top, height| Solid::Round { base: foot, bottom, top, height };
    match object.shape {
        Shape::Box => {
            let half = width / 2.0 / (object.turn.0.abs() + object.turn.1.abs());
            Solid::Block { centre: up(half), half, half_height: half, turn: object.turn }
        }
        Shape::Cone => round(0.5 * width, 0.0, 1.15 * width),
        Shape::Cylinder => round(0.38 * width, 0.38 * width, 1.2 * width),
        Shape::Ball | Shape::Person => Solid::Ball { centre: up(width / 2.0), radius: width / 2.0 },
    }
}

fn light(normal: Vec3) -> Light {
    match normal.dot(LAMP) {
        d if d > 0.65 => Light::Bright,
        d if d > 0.4 => Light::Plain,
        _ => Light::Dim,
    }
}
