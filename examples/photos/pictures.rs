//! Pictures, and two ways to describe how they look. The descriptions are real, if old and simple ones; the pictures are painted.
//!
//! An app would decode files, and might compute embeddings by a model; neither changes anything in `album.rs`. Painted pictures need
//! no files in the repository, and it is known what is in them, so that a test can tell whether a search finds it.

use std::f32::consts::PI;
use std::fmt;

use rand::{Rng, RngExt};

/// Components of a description of colours: the share of 4 × 4 × 4 cells of RGB.
pub const COLOURS: usize = 64;
/// Components of a description of shapes: 8 directions of edges in each of 6 × 4 fields.
pub const SHAPES: usize = 6 * 4 * DIRECTIONS;

const DIRECTIONS: usize = 8;
const WIDTH: usize = 48;
const HEIGHT: usize = 32;

type Rgb = [f32; 3];

/// A picture of 48 × 32 pixels, each component in 0.0..=1.0.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pixels: Vec<Rgb>,
}

impl Picture {
    /// Nothing but one colour.
    pub fn blank(colour: Rgb) -> Self {
        Self { pixels: vec![colour; WIDTH * HEIGHT] }
    }

    /// How much of the picture has which colour: the square root of each share.
    pub fn colours(&self) -> Vec<f32> {
        let mut shares = vec![0.0; COLOURS];
        let quarter = |x: f32| ((x * 4.0) as usize).min(3);
        for &[r, g, b] in &self.pixels {
            shares[16 * quarter(r) + 4 * quarter(g) + quarter(b)] += 1.0 / self.pixels.len() as f32;
        }
        shares.iter().map(|share: &f32| share.sqrt()).collect()
    }

    /// Where edges run in which direction: a histogram of oriented gradients (Dalal & Triggs 2005), without their overlapping
    /// blocks. `None` for a picture without edges.
    pub fn shapes(&self) -> Option<Vec<f32>> {
        let mut histogram = vec![0.0; SHAPES];
        let light = |x: usize, y: usize| self.pixels[y * WIDTH + x].iter().sum::<f32>();
        for y in 1..HEIGHT - 1 {
            for x in 1..WIDTH - 1 {
                let (dx, dy) = (light(x + 1, y) - light(x - 1, y), light(x, y + 1) - light(x, y - 1));
                // An edge runs the same way whichever side of it is the lighter one.
                let direction = (dy.atan2(dx).rem_euclid(PI) / PI * DIRECTIONS as f32) as usize % DIRECTIONS;
                let field = y * 4 / HEIGHT * 6 + x * 6 / WIDTH;
                histogram[field * DIRECTIONS + direction] += dx.hypot(dy);
            }
        }
        histogram.iter().any(|&sum: &f32| sum > 0.0).then_some(histogram)
    }
}

/// What was painted: its shapes are those of the place, its colours those of the light.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    pub place: Place,
    pub light: Light,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Beach,
    Forest,
    Mountains,
    City,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    Noon,
    Dusk,
    Night,
    Fog,
}

impl Scene {
    /// Any of the sixteen.
    pub fn any(rng: &mut impl Rng) -> Self {
        let place = [Place::Beach, Place::Forest, Place::Mountains, Place::City][rng.random_range(0..4)];
        let light = [Light::Noon, Light::Dusk, Light::Night, Light::Fog][rng.random_range(0..4)];
        Self { place, light }
    }

    /// Paints it: no two pictures are the same.
    pub fn paint(self, rng: &mut impl Rng) -> Picture {
        let [sky, ground, things] = self.light.colours();
        let mut canvas = Canvas { picture: Picture::blank(sky), horizon: rng.random_range(15..19) };
        canvas.fill(0..WIDTH, canvas.horizon..HEIGHT, ground);
        for _ in 0..rng.random_range(5..8) {
            let x = rng.random_range(0..WIDTH);
            match self.place {
                Place::Beach => canvas.wave(rng.random_range(canvas.horizon..HEIGHT), things),
                Place::Forest => canvas.tree(x, rng.random_range(2..9), things),
                Place::Mountains => canvas.mountain(x, rng.random_range(2..11), things),
                Place::City => canvas.house(x, rng.random_range(4..12), things, sky),
            }
        }
        canvas.picture.pixels.iter_mut().flatten().for_each(|component| {
            *component = (*component + rng.random_range(-0.02..0.02)).clamp(0.0, 1.0);
        });
        canvas.picture
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}, {:?}", self.place, self.light);
        f.pad(&text.to_lowercase())
    }
}

impl Light {
    /// Of the sky, the ground, and the things on it.
    fn colours(self) -> [Rgb; 3] {
        match self {
            Light::Noon => [[0.4, 0.6, 0.9], [0.6, 0.6, 0.35], [0.2, 0.35, 0.1]],
            Light::Dusk => [[0.9, 0.45, 0.3], [0.4, 0.2, 0.3], [0.2, 0.1, 0.15]],
            Light::Night => [[0.05, 0.05, 0.2], [0.1, 0.1, 0.1], [0.3, 0.3, 0.15]],
            Light::Fog => [[0.8, 0.8, 0.8], [0.65, 0.7, 0.65], [0.45, 0.45, 0.55]],
        }
    }
}

struct Canvas {
    picture: Picture,
    horizon: usize,
}

impl Canvas {
    fn fill(&mut self, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>, colour: Rgb) {
        for y in ys {
            for x in xs.start..xs.end.min(WIDTH) {
                self.picture.pixels[y * WIDTH + x] = colour;
            }
        }
    }

    fn wave(&mut self, y: usize, colour: Rgb) {
        self.fill(0..WIDTH, y..y + 1, colour);
    }

    fn tree(&mut self, x: usize, top: usize, colour: Rgb) {
        self.fill(x..x + 2, top..HEIGHT - 4, colour);
    }

    fn mountain(&mut self, x: usize, top: usize, colour: Rgb) {
        for y in top..self.horizon {
            let half = y - top + 1;
            self.fill(x.saturating_sub(half)..x + half, y..y + 1, colour);
        }
    }

    fn house(&mut self, x: usize, top: usize, colour: Rgb, windows: Rgb) {
        self.fill(x..x + 7, top..self.horizon + 4, colour);
        for y in (top + 1..self.horizon + 3).step_by(3) {
            self.fill(x + 1..x + 3, y..y + 2, windows);
            self.fill(x + 4..x + 6, y..y + 2, windows);
        }
    }
}
