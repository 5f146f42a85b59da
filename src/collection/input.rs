//! What vectors are accepted.

use crate::error::{Error, Result, VectorDefect, VectorSubject};
use crate::options::{Element, Metric, Parameters};
use crate::vectors::squared_norm;

/// Refuses vectors that cannot be stored: besides those that [`check_vector`] refuses, those that rounding to the element type would leave
/// without a finite component, or without a direction.
pub(crate) fn check_stored(subject: VectorSubject, vector: &[f32], parameters: &Parameters) -> Result<()> {
    check_vector(subject, vector, parameters)?;
    let element = parameters.element;
    if element == Element::F32 {
        return Ok(());
    }
    if let Some((component, value)) = element.out_of_range(vector) {
        return Err(Error::InvalidVector {
            subject,
            defect: VectorDefect::OutOfRange { component, value, largest: element.largest() },
        });
    }
    check_vector(subject, &element.round(vector), parameters).map(drop)
}

/// Refuses vectors of the wrong length, with components that are not finite, or with a norm that no distance can be computed
/// with. Gives back the norm.
pub(crate) fn check_vector(subject: VectorSubject, vector: &[f32], parameters: &Parameters) -> Result<f64> {
    if vector.len() != parameters.dimension {
        return Err(Error::WrongDimension { subject, expected: parameters.dimension, found: vector.len() });
    }
    let refuse = |defect| Err(Error::InvalidVector { subject, defect });
    let squared = squared_norm(vector);
    // Squares of f32s never overflow an f64, so that a sum of finite ones is finite.
    if !squared.is_finite()
        && let Some((component, &value)) = vector.iter().enumerate().find(|(_, x)| !x.is_finite())
    {
        return refuse(VectorDefect::NotFinite { component, value });
    }
    if squared > f64::from(f32::MAX) / 4.0 {
        return refuse(VectorDefect::TooLarge { squared_norm: squared });
    }
    let norm = squared.sqrt();
    if parameters.metric == Metric::Cosine && !(norm as f32).is_normal() {
        return refuse(VectorDefect::NoDirection { norm });
    }
    Ok(norm)
}
