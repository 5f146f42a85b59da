//! Looking at a store: get, collections, inspect; and completions.

use super::*;

#[test]
fn get_prints_vectors_as_they_were_given() {
    let work = Workplace::with_store();
    let printed = work.succeeds(["get", "s", "c", "7", "499", "--json"]);
    // The lines are those of an export, and can be imported.
    work.write("got.jsonl", printed.as_bytes());
    work.succeeds(["import", "copy", "c", "got.jsonl"]);
    assert_eq!(work.contents("copy"), [(7, work.base[7].clone()), (499, work.base[499].clone())]);
    let table = work.succeeds(["get", "s", "c", "7"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["key", "norm", "vector"]);
    let norm = work.base[7].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    let start = format!("  7  {norm:>10.4}  {:.3}, {:.3}, ", work.base[7][0], work.base[7][1]);
    assert!(lines[1].starts_with(&start) && lines[1].ends_with(", … 16 in all"), "{table}");
    work.fails(["get", "s", "c", "7", "500"], &["key 500 is not in collection \"c\""]);
    work.fails(["get", "s", "x", "7"], &["no collection \"x\"", "it has \"c\""]);
    work.is_misuse(["get", "s", "c"]);
    work.is_misuse(["get", "s", "c", "seven"]);
}

#[test]
fn collections_are_listed() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "another one", "query.fvecs", "--metric", "dot", "--m", "8", "--no-codes"]);
    let table = work.succeeds(["collections", "s"]);
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(lines[0], ["name", "vectors", "dimension", "metric", "m", "codes", "element"]);
    assert_eq!(lines[1], ["another", "one", "40", "16", "dot", "8", "none", "f32"]);
    assert_eq!(lines[2], ["c", "500", "16", "cosine", "16", "7-bit", "f32"]);
    let printed = work.succeeds(["collections", "s", "--json"]);
    let objects: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!((&objects[1]["name"], &objects[1]["vectors"]), (&"c".into(), &500.into()));
    work.fails(["collections", "nowhere"], &["no store at nowhere"]);
}

/// The histograms add up to what `stats` tells, and to each other: every edge leaves one node and enters one.
#[test]
fn inspect_counts_every_node_and_every_edge() {
    let work = Workplace::with_store();
    work.succeeds(["remove", "s", "c", "--keys", "100-149"]);
    let shape = work.json(["inspect", "s", "c"]);
    let stats = &work.json(["stats", "s"])["collections"][0];
    let counts = |histogram: &Value| -> Vec<u64> {
        histogram.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
    };
    let weighed = |counts: &[u64]| (0..).zip(counts).map(|(value, count)| value * count).sum::<u64>();
    assert_eq!(counts(&shape["levels"]).iter().sum::<u64>(), 450);
    let layers = shape["layers"].as_array().unwrap();
    assert!(layers.len() > 1, "levels to tell apart");
    for (layer, expected) in layers.iter().zip(stats["layers"].as_array().unwrap()) {
        for degrees in ["out_degrees", "in_degrees"] {
            let histogram = counts(&layer[degrees]);
            assert_eq!(histogram.iter().sum::<u64>(), expected["nodes"].as_u64().unwrap(), "{degrees}");
            assert_eq!(weighed(&histogram), expected["edges"].as_u64().unwrap(), "{degrees}");
            assert_ne!(histogram.last(), Some(&0), "it ends with the highest degree");
        }
        assert_eq!(counts(&layer["out_degrees"]).len() as u64 - 1, expected["max_degree"].as_u64().unwrap());
    }
    assert_eq!(layers[0]["reachable"], 450);

    let report = work.succeeds(["inspect", "s", "--svg", "shape.svg", "c"]);
    assert!(
        report.starts_with("c: 450 vectors of 16 components, cosine, m 16 (32 on layer 0)\n"),
        "{report}"
    );
    let widest = report.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest} columns:\n{report}");
    assert!(report.contains('█') && report.contains("nodes by their in-degree"), "{report}");
    let svg = fs::read_to_string(work.path("shape.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.matches("<rect").count() > 1 + layers.len());
    assert!(svg.contains(">450<") || svg.contains("450 vectors"), "{svg}");
    work.fails(["inspect", "s", "x"], &["no collection \"x\""]);
    work.fails(["inspect", "s", "c", "--svg", "no/where.svg"], &["cannot write no/where.svg"]);
    work.is_misuse(["inspect", "s", "--svg", "shape.svg"]);
}

#[test]
fn shells_complete_every_command() {
    let work = Workplace::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = work.succeeds(["completions", shell]);
        for word in ["import", "export", "inspect", "resume", "first-key"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    work.is_misuse(["completions", "tcsh"]);
}
