//! Recall and speed of other libraries, as other programs have measured them.

use std::path::Path;

use serde_json::Value;

use crate::curves::Point;
use crate::statistics::median;
use crate::{Result, failure};

/// Recall against speed, of one library.
#[derive(Clone)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<CurvePoint>,
}

#[derive(Clone)]
pub(crate) struct CurvePoint {
    pub(crate) ef: u64,
    pub(crate) recall: f64,
    pub(crate) qps: f64,
}

impl Curve {
    pub(crate) fn ours(points: &[Point]) -> Self {
        let point = |point: &Point| CurvePoint { ef: point.ef as u64, recall: point.recall, qps: point.qps };
        Self { name: "nestling".to_owned(), points: points.iter().map(point).collect() }
    }
}

/// The curves in a file of JSON lines, in the order in which their names first come. Where an `ef` comes several times, as when
/// runs were written to one file, the medians are taken.
pub(crate) fn read(path: &Path) -> Result<Vec<Curve>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut curves: Vec<Curve> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)
            .map_err(|e| format!("line {} of {} is not JSON: {e}", number + 1, path.display()))?;
        let (Some(peer), Some(point)) = (value["peer"].as_str(), CurvePoint::of(&value)) else { continue };
        match curves.iter_mut().find(|curve| curve.name == peer) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve { name: peer.to_owned(), points: vec![point] }),
        }
    }
    if curves.is_empty() {
        return failure(format!(
            "{} has no line with \"peer\", \"ef\", \"recall\" and \"qps\"",
            path.display()
        ));
    }
    for curve in &mut curves {
        curve.points.sort_by_key(|point| point.ef);
        curve.points = curve.points.chunk_by(|a, b| a.ef == b.ef).map(CurvePoint::middle).collect();
    }
    Ok(curves)
}

impl CurvePoint {
    fn of(value: &Value) -> Option<Self> {
        let (ef, recall, qps) = (value["ef"].as_u64()?, value["recall"].as_f64()?, value["qps"].as_f64()?);
        Some(Self { ef, recall, qps })
    }

    fn middle(runs: &[Self]) -> Self {
        let middle = |figure: fn(&Self) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        Self { ef: runs[0].ef, recall: middle(|run| run.recall), qps: middle(|run| run.qps) }
    }
}
