//! What a scene is, in words and numbers. Nothing here draws.

use serde::Serialize;

/// Side of a panel in pixels.
pub const SIDE: usize = 64;

/// Time of day; it decides sky, ground and how bright things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Time {
    /// Bright.
    Day,
    /// Evening.
    Dusk,
    /// Dark.
    Night,
}

impl Time {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Day, Self::Dusk, Self::Night];

    /// As captions say it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Day => "by day",
            Self::Dusk => "at dusk",
            Self::Night => "at night",
        }
    }

    /// As instructions say it.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Dusk => "dusk",
            Self::Night => "night",
        }
    }
}

/// What something looks like from any side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Round.
    Ball,
    /// A cube, turned a little.
    Box,
    /// Pointed.
    Cone,
    /// Taller than wide.
    Cylinder,
    /// A stick figure.
    Person,
}

impl Shape {
    /// The things; a person is not one of them.
    pub const THINGS: [Self; 4] = [Self::Ball, Self::Box, Self::Cone, Self::Cylinder];

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ball => "ball",
            Self::Box => "box",
            Self::Cone => "cone",
            Self::Cylinder => "cylinder",
            Self::Person => "person",
        }
    }
}

/// A colour of the palette.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Hue 0.
    Red,
    /// Hue 28.
    Orange,
    /// Hue 52.
    Yellow,
    /// Hue 130.
    Green,
    /// Hue 180.
    Cyan,
    /// Hue 225.
    Blue,
    /// Hue 285.
    Purple,
}

impl Colour {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Red, Self::Orange, Self::Yellow, Self::Green, Self::Cyan, Self::Blue, Self::Purple];

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Cyan => "cyan",
            Self::Blue => "blue",
            Self::Purple => "purple",
        }
    }
}

/// The position of something, by the column of its middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// Middle in columns below 23.5.
    Left,
    /// Between.
    Middle,
    /// Middle in columns from 40.5.
    Right,
}

impl Position {
    /// All of them, from the left.
    pub const ALL: [Self; 3] = [Self::Left, Self::Middle, Self::Right];

    /// The position of a column.
    #[must_use]
    pub fn of(column: f32) -> Self {
        match column {
            c if c < 23.5 => Self::Left,
            c if c < 40.5 => Self::Middle,
            _ => Self::Right,
        }
    }

    /// Its column.
    #[must_use]
    pub fn column(self) -> f32 {
        match self {
            Self::Left => 13.0,
            Self::Middle => 32.0,
            Self::Right => 51.0,
        }
    }

    /// As captions say it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Left => "on the left",
            Self::Middle => "in the middle",
            Self::Right => "on the right",
        }
    }
}

/// How large something is drawn; captions say the outer two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// 16 to 18 pixels wide.
    Small,
    /// 20 to 24 pixels wide.
    Medium,
    /// 29 to 32 pixels wide.
    Large,
}

impl Size {
    /// The widths in pixels.
    #[must_use]
    pub fn widths(self) -> (f32, f32) {
        match self {
            Self::Small => (16.0, 18.0),
            Self::Medium => (20.0, 24.0),
            Self::Large => (29.0, 32.0),
        }
    }

    /// The word, with its space.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Small => "small ",
            Self::Medium => "",
            Self::Large => "large ",
        }
    }
}

/// How a person holds the arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arms {
    /// Both down.
    Down,
    /// Both stretched out to the sides.
    Out,
    /// Both up.
    Up,
    /// One up, one down.
    Waving,
}

impl Arms {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Down, Self::Out, Self::Up, Self::Waving];

    /// As captions say it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Down => "with arms down",
            Self::Out => "with arms out",
            Self::Up => "with arms up",
            Self::Waving => "waving",
        }
    }
}

/// The parts of a person that are not told by colour and place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Body {
    /// The arms.
    pub arms: Arms,
    /// Whether the raised arm of a waving person is on the right of the picture.
    pub mirrored: bool,
    /// Half of the distance between the feet, over the height.
    pub stride: f32,
    /// How far the arms leave their pose, -1 to 1.
    pub swing: f32,
}

/// One thing or person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// What it is.
    pub shape: Shape,
    /// Its colour; of a person, the clothes'.
    pub colour: Colour,
    /// How large it is drawn.
    pub size: Size,
    /// Column of its middle.
    pub column: f32,
    /// Row of the ground below its middle.
    pub row: f32,
    /// Width in pixels; of a person, a third of the height.
    pub width: f32,
    /// Cosine and sine of a box's turn.
    pub turn: (f32, f32),
    /// For a person.
    pub body: Body,
}

impl Object {
    /// Its position.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::of(self.column)
    }

    /// `red ball`, `person in red`: what no other object of its scene is.
    #[must_use]
    pub fn name(&self) -> String {
        match self.shape {
            Shape::Person => format!("person in {}", self.colour.word()),
            _ => format!("{} {}", self.colour.word(), self.shape.word()),
        }
    }
}

/// What is behind and below the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backdrop {
    /// Sky and ground.
    Outdoors(Time),
    /// One plain, light surface.
    Plain,
}

/// How the objects of a scene stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One thing.
    Single,
    /// Two things side by side.
    Two,
    /// Three things from left to right.
    Three,
    /// Two things, the first partly hiding the second.
    Front,
    /// A person alone.
    Person,
    /// A person and a thing.
    PersonThing,
}

/// A scene: everything the renderer needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// How the objects stand.
    pub kind: Kind,
    /// Sky and ground.
    pub backdrop: Backdrop,
    /// Row of the horizon.
    pub horizon: f32,
    /// The objects, from left to right; of [`Kind::Front`], the nearer one first.
    pub objects: Vec<Object>,
}

impl Scene {
    /// Time of day; a plain backdrop counts as day.
    #[must_use]
    pub fn time(&self) -> Time {
        match self.backdrop {
            Backdrop::Outdoors(time) => time,
            Backdrop::Plain => Time::Day,
        }
    }
}
