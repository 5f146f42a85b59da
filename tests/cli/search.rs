//! `nestling search`.

use super::*;

#[test]
fn a_search_finds_what_is_nearest() {
    let work = Workplace::with_store();
    for row in [0, 5, 39] {
        let query = &work.queries[row];
        let row = row.to_string();
        let arguments =
            ["search", "s", "c", "--queries", "query.fvecs", "--row", &row, "-k", "7", "--ef", "500"];
        let found = work.json(arguments);
        let expected = &ranked(&work.base, query, cosine)[..7];
        assert_eq!(keys(&found), expected.iter().map(|&key| key as u64).collect::<Vec<_>>());
        for (hit, &row) in found["hits"].as_array().unwrap().iter().zip(expected) {
            assert!((hit["distance"].as_f64().unwrap() - cosine(query, &work.base[row])).abs() < 1e-5);
        }
        assert!(found["microseconds"].as_u64().unwrap() > 0);
        let (loaded, pages) =
            (found["graph_pages_loaded"].as_u64().unwrap(), found["graph_pages"].as_u64().unwrap());
        assert!(0 < loaded && loaded <= pages, "{loaded} of {pages}");
    }
}

#[test]
fn a_search_by_key_finds_the_key_first() {
    let work = Workplace::with_store();
    for key in ["0", "250", "499"] {
        let found = work.json(["search", "s", "c", "--key", key]);
        let hits = found["hits"].as_array().unwrap();
        assert_eq!(hits.len(), 10);
        assert_eq!(hits[0]["key"].to_string(), key);
        assert!(hits[0]["distance"].as_f64().unwrap() < 1e-6);
    }
}

/// The table for people and the object for programs tell the same.
#[test]
fn the_table_of_a_search_has_the_same_hits() {
    let work = Workplace::with_store();
    let search = ["search", "s", "c", "--key", "42", "-k", "4"];
    let (table, object) = (work.succeeds(search), work.json(search));
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(cells(lines[0]), ["rank", "key", "distance"]);
    for (rank, hit) in object["hits"].as_array().unwrap().iter().enumerate() {
        let expected = [
            (rank + 1).to_string(),
            hit["key"].to_string(),
            format!("{:.6}", hit["distance"].as_f64().unwrap()),
        ];
        assert_eq!(cells(lines[rank + 1]), expected);
    }
    assert_eq!(lines.len(), 6, "a header, four hits, and what it took:\n{table}");
}

#[test]
fn a_search_says_what_it_cannot_find() {
    let work = Workplace::with_store();
    let mut bad = work.queries.clone();
    bad[2][3] = f32::INFINITY;
    work.write("bad.fvecs", &fvecs(&bad));
    work.fails(["search", "s", "c", "--key", "500"], &["key 500", "\"c\""]);
    let search = |file, row| ["search", "s", "c", "--queries", file, "--row", row];
    work.fails(search("query.fvecs", "40"), &["query.fvecs has 40 rows", "no row 40"]);
    work.fails(search("missing.fvecs", "0"), &["missing.fvecs"]);
    work.fails(search("bad.fvecs", "2"), &["row 2 of bad.fvecs has inf at component 3"]);
}
