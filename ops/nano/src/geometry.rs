//! Solids and the rays that meet them. Only `+ - * /` and square roots, so that every machine gives the same bits.
//!
//! The camera stands at the origin and looks along +z; x points right, y up. Rays have direction z = 1, so that the
//! distance along a ray *is* the depth.

/// A point or a direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vec3 {
    /// Right.
    pub x: f32,
    /// Up.
    pub y: f32,
    /// Away from the camera.
    pub z: f32,
}

impl Vec3 {
    /// A vector of its three parts.
    #[must_use]
    pub const fn new(x: f32, y: f32, z: f32) -> Self {
        Self { x, y, z }
    }

    /// `self + other`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self::new(self.x + other.x, self.y + other.y, self.z + other.z)
    }

    /// `self - other`.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self::new(self.x - other.x, self.y - other.y, self.z - other.z)
    }

    /// `self * factor`.
    #[must_use]
    pub fn times(self, factor: f32) -> Self {
        Self::new(self.x * factor, self.y * factor, self.z * factor)
    }

    /// The inner product.
    #[must_use]
    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    /// The same direction with length 1.
    #[must_use]
    pub fn unit(self) -> Self {
        self.times(1.0 / self.dot(self).sqrt())
    }
}

/// A body in space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Solid {
    /// A ball.
    Ball {
        /// Middle.
        centre: Vec3,
        /// Radius.
        radius: f32,
    },
    /// A box on a square base, turned about the upright axis.
    Block {
        /// Middle.
        centre: Vec3,
        /// Half of the base's side.
        half: f32,
        /// Half of the height.
        half_height: f32,
        /// Cosine and sine of the turn.
        turn: (f32, f32),
    },
    /// A cylinder or, with `top` 0, a cone; upright.
    Round {
        /// Middle of the base.
        base: Vec3,
        /// Radius of the base.
        bottom: f32,
        /// Radius of the top.
        top: f32,
        /// Height.
        height: f32,
    },
    /// All points within `radius` of a line.
    Capsule {
        /// One end of the line.
        from: Vec3,
        /// Its other end.
        to: Vec3,
        /// Half of the thickness.
        radius: f32,
    },
}

/// Where a ray meets a surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Depth.
    pub depth: f32,
    /// Outward unit normal.
    pub normal: Vec3,
}

impl Solid {
    /// The nearest point in front of the camera that the ray from the origin along `ray` meets.
    #[must_use]
    pub fn hit(&self, ray: Vec3) -> Option<Hit> {
        match *self {
            Self::Ball { centre, radius } => ball(ray, centre, radius),
            Self::Block { centre, half, half_height, turn } => {
                block(ray, centre, half, half_height, turn)
            }
            Self::Round { base, bottom, top, height } => round(ray, base, [bottom, top], height),
            Self::Capsule { from, to, radius } => capsule(ray, from, to, radius),
        }
    }

    /// Opposite corners of an upright box around it.
    #[must_use]
    pub fn bounds(&self) -> (Vec3, Vec3) {
        let around = |centre: Vec3, reach: Vec3| (centre.minus(reach), centre.plus(reach));
        match *self {
            Self::Ball { centre, radius } => around(centre, Vec3::new(radius, radius, radius)),
            Self::Block { centre, half, half_height, turn } => {
                let reach = half * (turn.0.abs() + turn.1.abs());
                around(centre, Vec3::new(reach, half_height, reach))
            }
            Self::Round { base, bottom, top, height } => {
                let reach = bottom.max(top);
                let middle = base.plus(Vec3::new(0.0, height / 2.0, 0.0));
                around(middle, Vec3::new(reach, height / 2.0, reach))
            }
            Self::Capsule { from, to, radius } => {
                let low = Vec3::new(from.x.min(to.x), from.y.min(to.y), from.z.min(to.z));
                let high = Vec3::new(from.x.max(to.x), from.y.max(to.y), from.z.max(to.z));
                let reach = Vec3::new(radius, radius, radius);
                (low.minus(reach), high.plus(reach))
            }
        }
    }
}

/// The smaller root of `a t^2 - 2 b t + c = 0`.
fn first_root(a: f32, b: f32, c: f32) -> Option<f32> {
    let inside = b * b - a * c;
    (inside > 0.0).then(|| (b - inside.sqrt()) / a)
}

fn ball(ray: Vec3, centre: Vec3, radius: f32) -> Option<Hit> {
    let depth = first_root(ray.dot(ray), ray.dot(centre), centre.dot(centre) - radius * radius)?;
    let normal = ray.times(depth).minus(centre).times(1.0 / radius);
    (depth > 0.0).then_some(Hit { depth, normal })
}

fn block(
    ray: Vec3,
    centre: Vec3,
    half: f32,
    half_height: f32,
    (cos, sin): (f32, f32),
) -> Option<Hit> {
    let inward = |v: Vec3| [cos * v.x + sin * v.z, v.y, cos * v.z - sin * v.x];
    let (start, along) = (inward(centre), inward(ray));
    let reach = [half, half_height, half];
    let (mut near, mut far, mut face) = (f32::MIN, f32::MAX, 0);
    for axis in 0..3 {
        if along[axis].abs() < 1e-9 {
            if start[axis].abs() > reach[axis] {
                return None;
            }
            continue;
        }
        let a = (start[axis] - reach[axis]) / along[axis];
        let b = (start[axis] + reach[axis]) / along[axis];
        if a.min(b) > near {
            (near, face) = (a.min(b), axis);
        }
        far = far.min(a.max(b));
    }
    if near >= far || near <= 0.0 {
        return None;
    }
    let sign = if along[face] > 0.0 { -1.0 } else { 1.0 };
    let normal = match face {
        0 => Vec3::new(cos * sign, 0.0, sin * sign),
        1 => Vec3::new(0.0, sign, 0.0),
        _ => Vec3::new(-sin * sign, 0.0, cos * sign),
    };
    Some(Hit { depth: near, normal })
}

fn round(ray: Vec3, base: Vec3, [bottom, top]: [f32; 2], height: f32) -> Option<Hit> {
    let side = round_side(ray, base, bottom, (bottom - top) / height, height);
    let lid = (top > 0.0 && ray.y < 0.0).then(|| (base.y + height) / ray.y).and_then(|depth| {
        let p = ray.times(depth).minus(base);
        let normal = Vec3::new(0.0, 1.0, 0.0);
        (depth > 0.0 && p.x * p.x + p.z * p.z < top * top).then_some(Hit { depth, normal })
    });
    match (side, lid) {
        (Some(a), Some(b)) => Some(if a.depth < b.depth { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// The mantle: the points at distance `bottom - slope * y` from the axis, `y` above the base.
fn round_side(ray: Vec3, base: Vec3, bottom: f32, slope: f32, height: f32) -> Option<Hit> {
    // Radius at depth t: reach - fall * t.
    let (reach, fall) = (bottom + slope * base.y, slope * ray.y);
    let a = ray.x * ray.x + ray.z * ray.z - fall * fall;
    let b = ray.x * base.x + ray.z * base.z - reach * fall;
    let c = base.x * base.x + base.z * base.z - reach * reach;
    let depth = first_root(a, b, c)?;
    let p = ray.times(depth).minus(base);
    if depth <= 0.0 || p.y < 0.0 || p.y > height {
        return None;
    }
    let across = (p.x * p.x + p.z * p.z).sqrt();
    let normal = Vec3::new(p.x, slope * across, p.z).unit();
    Some(Hit { depth, normal })
}

fn capsule(ray: Vec3, from: Vec3, to: Vec3, radius: f32) -> Option<Hit> {
    let axis = to.minus(from);
    let length2 = axis.dot(axis);
    let (along_ray, along_from) = (ray.dot(axis) / length2, from.dot(axis) / length2);
    let across = ray.minus(axis.times(along_ray));
    let offset = from.minus(axis.times(along_from));
    let tube =
        first_root(across.dot(across), across.dot(offset), offset.dot(offset) - radius * radius);
    let tube = tube.and_then(|depth| {
        let place = along_ray * depth - along_from;
        let foot = from.plus(axis.times(place));
        let normal = ray.times(depth).minus(foot).times(1.0 / radius);
        (depth > 0.0 && (0.0..=1.0).contains(&place)).then_some(Hit { depth, normal })
    });
    let ends = [ball(ray, from, radius), ball(ray, to, radius)];
    let all = [tube, ends[0], ends[1]];
    all.into_iter().flatten().min_by(|a, b| a.depth.total_cmp(&b.depth))
}
