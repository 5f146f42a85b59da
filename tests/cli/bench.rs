//! `nestling bench`.

use super::*;

/// Recall, recomputed with independent means: the same searches through the library, in this process, counted by keys (the vectors
/// are random, so there are no ties).
#[test]
fn bench_measures_the_recall_there_is() {
    let work = Workplace::new();
    // A poor graph and a narrow search, so that there is something to miss.
    work.succeeds(["import", "s", "c", "base.fvecs", "--m", "3", "--ef-construction", "5", "--metric", "l2"]);
    let truth: Vec<Vec<usize>> =
        work.queries.iter().map(|query| ranked(&work.base, query, squared_l2)[..10].to_vec()).collect();
    let rows: Vec<Vec<i32>> = truth.iter().map(|row| row.iter().map(|&key| key as i32).collect()).collect();
    work.write("truth.ivecs", &ivecs(&rows));
    let efs = [10, 40, 500];
    let recalls = efs.map(|ef| {
        let store = Store::builder().read_only().open(work.path("s")).unwrap();
        let collection = store.begin_read().unwrap().open_stored_collection("c").unwrap();
        let right = work.queries.iter().zip(&truth).map(|(query, truth)| {
            let hits = collection.query(query).k(10).ef(ef).run().unwrap();
            hits.iter().filter(|hit| truth.contains(&(hit.key as usize))).count()
        });
        right.sum::<usize>() as f64 / 400.0
    });
    assert!(recalls[0] < 0.9 && recalls[2] == 1.0, "nothing to measure: {recalls:?}");
    let bench = ["bench", "s", "c", "--queries", "query.fvecs", "--ef", "10,40,500", "--json"];
    for options in [&["--truth", "truth.ivecs"][..], &[], &["--threads", "3"]] {
        let printed = work.succeeds(bench.into_iter().chain(options.iter().copied()));
        let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        for ((line, ef), recall) in lines.iter().zip(efs).zip(recalls) {
            assert_eq!(line["ef"], ef);
            assert!((line["recall"].as_f64().unwrap() - recall).abs() < 1e-9, "{line} instead of {recall}");
            assert!(line["qps"].as_f64().unwrap() > 0.0);
            let (p50, p99) = (line["p50_us"].as_f64().unwrap(), line["p99_us"].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p99, "{line}");
        }
        let distances: Vec<f64> = lines.iter().map(|line| line["distances"].as_f64().unwrap()).collect();
        assert!(distances[0] >= 10.0 && distances.is_sorted(), "a wider search compares more: {distances:?}");
    }
    let table = work.succeeds(["bench", "s", "c", "--queries", "query.fvecs", "--ef", "500"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..3], ["ef", "recall", "qps"]);
    assert_eq!(lines[1][..2], ["500", "1.0000"]);
}

/// Thirty copies of one vector, ten are asked for, and the truth names ten others than the search finds: all of them are as near, so
/// the recall is 1.
#[test]
fn ties_with_the_last_true_neighbor_count() {
    let work = Workplace::new();
    let mut base = work.base.clone();
    base[..30].fill(work.base[0].clone());
    work.write("copies.fvecs", &fvecs(&base));
    work.write("copy.fvecs", &fvecs(&base[..1]));
    work.succeeds(["import", "s", "c", "copies.fvecs"]);
    let found = keys(&work.json(["search", "s", "c", "--key", "0", "--ef", "500"]));
    let others: Vec<i32> = (0..30).filter(|&key| !found.contains(&(key as u64))).take(10).collect();
    assert_eq!(others.len(), 10);
    work.write("truth.ivecs", &ivecs(&[others]));
    let bench = ["bench", "s", "c", "--queries", "copy.fvecs", "--ef", "500", "--truth", "truth.ivecs"];
    assert_eq!(work.json(bench)["recall"], 1.0);
}

#[test]
fn a_truth_that_does_not_fit_is_refused() {
    let work = Workplace::with_store();
    let bench = |truth| ["bench", "s", "c", "--queries", "query.fvecs", "--truth", truth];
    work.write("few.ivecs", &ivecs(&vec![vec![1; 10]; 39]));
    work.fails(bench("few.ivecs"), &["few.ivecs has 39 rows, query.fvecs has 40"]);
    work.write("narrow.ivecs", &ivecs(&vec![vec![1; 9]; 40]));
    work.fails(bench("narrow.ivecs"), &["row 0 of narrow.ivecs names 9 neighbors", "-k"]);
    for stranger in [500, -1] {
        let mut rows = vec![(0..10).collect::<Vec<i32>>(); 40];
        rows[7][4] = stranger;
        work.write("strange.ivecs", &ivecs(&rows));
        let named = format!("row 7 of strange.ivecs names {stranger} ");
        work.fails(bench("strange.ivecs"), &[&named, "--first-key 0"]);
    }
    work.fails(bench("missing.ivecs"), &["missing.ivecs"]);
    let mut bad = work.queries.clone();
    bad[3][0] = f32::NAN;
    work.write("bad.fvecs", &fvecs(&bad));
    work.fails(["bench", "s", "c", "--queries", "bad.fvecs"], &["row 3 of bad.fvecs has NaN at component 0"]);
}

#[test]
fn an_emptied_collection_is_searched_and_not_measured() {
    let work = Workplace::with_store();
    work.succeeds(["remove", "s", "c", "--keys", "0-499"]);
    assert_eq!(
        work.json(["search", "s", "c", "--queries", "query.fvecs", "--row", "0"])["hits"],
        Value::Array(vec![])
    );
    work.fails(["bench", "s", "c", "--queries", "query.fvecs"], &["\"c\"", "is empty"]);
}
