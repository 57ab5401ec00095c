//! From a seed to a scene: what is where.

use super::rng::{Rng, Stream};
use super::scene::{
    Arms, Backdrop, Body, Colour, Kind, Object, Position, Scene, Shape, Size, Time,
};

/// Rows of the horizon.
const HORIZONS: [f32; 3] = [20.0, 24.0, 28.0];
/// Cosines and sines of a box's turn: about 20 and 30 degrees to either side.
const TURNS: [(f32, f32); 4] = [(0.94, 0.342), (0.866, 0.5), (0.94, -0.342), (0.866, -0.5)];

/// Rows on which something can stand.
#[derive(Clone, Copy)]
struct Rows(f32, f32);

/// Anywhere.
const ANY: Rows = Rows(43.0, 55.5);
/// Towards the horizon.
const BACK: Rows = Rows(41.0, 44.0);
/// Towards the camera.
const FRONT: Rows = Rows(52.5, 56.0);

/// The scene of a seed.
#[must_use]
pub fn scene(seed: u64) -> Scene {
    let mut rng = Rng::new(seed, Stream::Layout);
    let kind = match rng.below(100) {
        0..30 => Kind::Single,
        30..58 => Kind::Two,
        58..72 => Kind::Three,
        72..82 => Kind::Front,
        82..92 => Kind::Person,
        _ => Kind::PersonThing,
    };
    let time = rng.pick(&Time::ALL);
    let mut maker = Maker { rng, colours: Colour::ALL.to_vec() };
    maker.rng.shuffle(&mut maker.colours);
    let horizon = maker.rng.pick(&HORIZONS);
    let objects = match kind {
        Kind::Single => maker.single(),
        Kind::Two => maker.two(),
        Kind::Three => maker.three(),
        Kind::Front => maker.front(),
        Kind::Person => vec![maker.person(None)],
        Kind::PersonThing => maker.person_and_thing(),
    };
    Scene { kind, backdrop: Backdrop::Outdoors(time), horizon, objects }
}

/// A thing of a shape and colour beside nothing else, or at the side that `other` leaves free.
///
/// `None` when nothing more fits.
pub(super) fn addition(rng: &mut Rng, scene: &Scene) -> Option<Object> {
    let mut colours = Colour::ALL.to_vec();
    colours.retain(|colour| scene.objects.iter().all(|object| object.colour != *colour));
    rng.shuffle(&mut colours);
    let mut places = Position::ALL;
    rng.shuffle(&mut places);
    let mut maker = Maker { rng: rng.clone(), colours };
    let shape = maker.shape();
    let mut thing = maker.thing(shape, Size::Small, Position::Middle, Rows(45.0, 54.0));
    *rng = maker.rng;
    places.into_iter().find_map(|place| {
        let columns: &[f32] = match place {
            Position::Left => &[13.0, 11.0, 9.5],
            Position::Middle => &[32.0, 29.0, 35.0],
            Position::Right => &[51.0, 53.0, 54.5],
        };
        let free = |column: f32| {
            let apart =
                |o: &Object| (o.column - column).abs() > half_width(o) + thing.width / 2.0 + 1.0;
            scene.objects.iter().all(apart)
        };
        thing.column = columns.iter().copied().find(|column| free(*column))?;
        Some(thing)
    })
}

/// The objects of a subject's other scene: the subject at a new place, alone or with one more thing.
pub(super) fn subject_scene(rng: &mut Rng, subject: &Object) -> Scene {
    let mut colours = Colour::ALL.to_vec();
    colours.retain(|colour| *colour != subject.colour);
    rng.shuffle(&mut colours);
    let mut maker = Maker { rng: rng.clone(), colours };
    let pair = maker.rng.percent(40);
    let place = if pair {
        maker.rng.pick(&[Position::Left, Position::Right])
    } else {
        maker.rng.pick(&Position::ALL)
    };
    let mut object = maker.thing(subject.shape, Size::Medium, place, ANY);
    if subject.shape == Shape::Person {
        object = maker.person(Some(place));
        object.body = subject.body;
    }
    (object.colour, object.turn) = (subject.colour, subject.turn);
    let mut objects = vec![object];
    if pair {
        let other = if place == Position::Left { Position::Right } else { Position::Left };
        let shape = maker.shape();
        objects.push(maker.thing(shape, Size::Medium, other, ANY));
    }
    let time = maker.rng.pick(&Time::ALL);
    let horizon = maker.rng.pick(&HORIZONS);
    *rng = maker.rng;
    let kind = if pair { Kind::Two } else { Kind::Single };
    Scene { kind, backdrop: Backdrop::Outdoors(time), horizon, objects }
}

/// Half of the columns that an object can cover.
fn half_width(object: &Object) -> f32 {
    match (object.shape, object.body.arms) {
        (Shape::Person, Arms::Out) => 1.4 * object.width,
        (Shape::Person, _) => 1.0 * object.width,
        _ => object.width / 2.0,
    }
}

struct Maker {
    rng: Rng,
    /// Colours that are not used yet.
    colours: Vec<Colour>,
}

impl Maker {
    fn shape(&mut self) -> Shape {
        self.rng.pick(&Shape::THINGS)
    }

    /// Shapes of several things; now and then all the same.
    fn shapes<const N: usize>(&mut self) -> [Shape; N] {
        if self.rng.percent(15) {
            return [self.shape(); N];
        }
        std::array::from_fn(|_| self.shape())
    }

    fn thing(&mut self, shape: Shape, size: Size, place: Position, rows: Rows) -> Object {
        let rng = &mut self.rng;
        let (low, high) = size.widths();
        let width = rng.between(low, high);
        let column = place.column() + rng.between(-2.0, 2.0);
        let row = rng.between(rows.0, rows.1);
        let turn = rng.pick(&TURNS);
        Object {
            shape,
            colour: self.colours.pop().unwrap_or(Colour::Red),
            size,
            column: column.clamp(width / 2.0 + 0.5, 63.5 - width / 2.0),
            row,
            width,
            turn,
            body: Body { arms: Arms::Down, mirrored: false, stride: 0.1, swing: 0.0 },
        }
    }

    fn single(&mut self) -> Vec<Object> {
        let size = match self.rng.below(100) {
            0..27 => Size::Small,
            27..70 => Size::Medium,
            _ => Size::Large,
        };
        let rows = if size == Size::Large { Rows(48.0, 54.0) } else { ANY };
        let place = self.rng.pick(&Position::ALL);
        let shape = self.shape();
        vec![self.thing(shape, size, place, rows)]
    }

    fn two(&mut self) -> Vec<Object> {
        use Position::{Left, Middle, Right};
        let [a, b] = self.shapes();
        let places = match self.rng.below(10) {
            0..6 => [Left, Right],
            6..8 => [Left, Middle],
            _ => [Middle, Right],
        };
        let (sizes, rows) = if places != [Left, Right] {
            ([Size::Small; 2], self.rows())
        } else if self.rng.percent(30) {
            (self.either([Size::Large, Size::Small]), [Rows(49.0, 53.0); 2])
        } else {
            ([Size::Medium; 2], self.rows())
        };
        vec![
            self.thing(a, sizes[0], places[0], rows[0]),
            self.thing(b, sizes[1], places[1], rows[1]),
        ]
    }

    /// Both anywhere in the middle ground, or one clearly nearer.
    fn rows(&mut self) -> [Rows; 2] {
        if self.rng.percent(50) { self.either([FRONT, BACK]) } else { [Rows(46.0, 50.0); 2] }
    }

    fn either<T: Copy>(&mut self, [a, b]: [T; 2]) -> [T; 2] {
        if self.rng.percent(50) { [a, b] } else { [b, a] }
    }

    fn three(&mut self) -> Vec<Object> {
        let shapes: [Shape; 3] = self.shapes();
        let pairs = shapes.into_iter().zip(Position::ALL);
        pairs.map(|(shape, place)| self.thing(shape, Size::Small, place, ANY)).collect()
    }

    fn front(&mut self) -> Vec<Object> {
        let [a, b] = self.shapes();
        let mut back = self.thing(b, Size::Medium, Position::Middle, BACK);
        back.width += 4.0;
        back.column = 32.0 + self.rng.between(-9.0, 9.0);
        let mut front = self.thing(a, Size::Medium, Position::Middle, Rows(51.0, 54.0));
        front.width -= 2.0;
        let [side, _] = self.either([-1.0, 1.0]);
        front.column = back.column + side * self.rng.between(6.5, 9.5);
        vec![front, back]
    }

    fn person(&mut self, place: Option<Position>) -> Object {
        let place = place.unwrap_or_else(|| self.rng.pick(&Position::ALL));
        let mut person = self.thing(Shape::Person, Size::Medium, place, Rows(51.0, 57.0));
        let rng = &mut self.rng;
        person.width = rng.between(11.6, 13.4);
        person.column = person.column.clamp(16.5, 47.5);
        person.body = Body {
            arms: rng.pick(&Arms::ALL),
            mirrored: rng.percent(50),
            stride: rng.between(0.08, 0.17),
            swing: rng.between(-1.0, 1.0),
        };
        person
    }

    fn person_and_thing(&mut self) -> Vec<Object> {
        let [a, b] = self.either([Position::Left, Position::Right]);
        let person = self.person(Some(a));
        let shape = self.shape();
        let thing = self.thing(shape, Size::Small, b, ANY);
        if a == Position::Left { vec![person, thing] } else { vec![thing, person] }
    }
}
