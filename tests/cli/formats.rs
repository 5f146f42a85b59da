//! Files of vectors: what is imported and exported again are the same bytes, in every format, and what is no such file is refused with
//! a message that says where and what to do.

use super::*;

type Rows<'a> = &'a [Vec<f32>];
type Keyed<'a> = &'a [(u64, Vec<f32>)];

/// Eight rows of four components, with values that are hard to write as text.
fn rows() -> Vec<Vec<f32>> {
    let hard = [
        1e-45, // the smallest subnormal
        -0.0,
        0.1,
        16_777_217.0,
        -9.0e18,
        1.175_494_4e-38, // the smallest normal
        3.333_333_3e-7,
        8.5e9,
    ];
    let row = |row: usize| -> Vec<f32> { (0..4).map(|at| hard[(3 * row + at) % 8]).collect() };
    (0..8).map(row).collect()
}

/// Rows of whole numbers, as formats of bytes hold them.
fn byte_rows() -> Vec<Vec<f32>> {
    (0..8_u8).map(|row| vec![f32::from(row), 255.0, 0.0, f32::from(row * 31)]).collect()
}

fn fbin(rows: &[Vec<f32>]) -> Vec<u8> {
    let values = rows.iter().flatten().flat_map(|x| x.to_le_bytes());
    bin_header(rows).into_iter().chain(values).collect()
}

fn bin_header(rows: &[Vec<f32>]) -> Vec<u8> {
    [rows.len() as u32, rows[0].len() as u32].into_iter().flat_map(u32::to_le_bytes).collect()
}

/// As NumPy 2.4 saves it.
fn npy(descr: &str, shape: &str, elements: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut file = b"\x93NUMPY\x01\x00v\x00".to_vec();
    file.extend(format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}").bytes());
    file.resize(127, b' ');
    file.push(b'\n');
    file.extend(elements);
    file
}

fn little(rows: &[Vec<f32>]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect()
}

fn bits(contents: &[(u64, Vec<f32>)]) -> Vec<(u64, Vec<u32>)> {
    contents.iter().map(|(key, vector)| (*key, vector.iter().map(|x| x.to_bits()).collect())).collect()
}

fn numbered(rows: &[Vec<f32>]) -> Vec<(u64, Vec<f32>)> {
    (0..).zip(rows.to_vec()).collect()
}

#[test]
fn what_is_imported_is_exported_byte_for_byte() {
    let (floats, bytes) = (rows(), byte_rows());
    let whole = |rows: &[Vec<f32>]| rows.iter().flatten().map(|&x| x as u8).collect::<Vec<u8>>();
    let with_width = |row: &Vec<f32>| [4, 0, 0, 0].into_iter().chain(whole(std::slice::from_ref(row)));
    let files: [(&str, Rows<'_>, Vec<u8>); 7] = [
        ("x.fvecs", &floats, fvecs(&floats)),
        ("x.fbin", &floats, fbin(&floats)),
        ("x.npy", &floats, npy("<f4", "(8, 4)", little(&floats))),
        ("x.bvecs", &bytes, bytes.iter().flat_map(with_width).collect()),
        ("x.u8bin", &bytes, bin_header(&bytes).into_iter().chain(whole(&bytes)).collect()),
        ("x.jsonl", &floats, jsonl(&floats)),
        ("x.csv", &floats, csv(&floats)),
    ];
    let work = Workplace::new();
    for (name, rows, file) in files {
        let store = format!("{name}.store");
        work.write(name, &file);
        work.succeeds(["import", &store, "c", name, "--metric", "l2", "--batch", "3"]);
        assert_eq!(bits(&work.contents(&store)), bits(&numbered(rows)), "{name}");
        let told = work.json(["export", &store, "c", &format!("again.{name}")]);
        assert_eq!(told, serde_json::json!({ "exported": 8, "bytes": file.len() }));
        assert_eq!(fs::read(work.path(&format!("again.{name}"))).unwrap(), file, "{name}");
        // Through pipes as well, where a suffix tells nothing.
        let format = name.split_once('.').unwrap().1;
        let exported = work.command(["export", &store, "c", "-", "--format", format]).output().unwrap();
        assert_eq!(exported.stdout, file, "{name}: {}", text(&exported.stderr));
        let piped = format!("{name}.piped");
        let arguments = ["import", &piped, "c", "-", "--format", format, "--metric", "l2"];
        let import = work.with_input(arguments, &exported.stdout);
        assert!(import.status.success(), "{name}: {}", text(&import.stderr));
        assert_eq!(bits(&work.contents(&piped)), bits(&numbered(rows)), "{name}");
    }
}

fn jsonl(rows: &[Vec<f32>]) -> Vec<u8> {
    let line = |(key, row): (usize, &Vec<f32>)| {
        let numbers: Vec<String> = row.iter().map(|x| format!("{x:?}")).collect();
        format!("{{\"key\":{key},\"vector\":[{}]}}\n", numbers.join(","))
    };
    rows.iter().enumerate().map(line).collect::<String>().into_bytes()
}

fn csv(rows: &[Vec<f32>]) -> Vec<u8> {
    let line = |(key, row): (usize, &Vec<f32>)| {
        let numbers: Vec<String> = row.iter().map(|x| format!("{x:?}")).collect();
        format!("{key},{}\n", numbers.join(","))
    };
    let lines: String = rows.iter().enumerate().map(line).collect();
    format!("key,x0,x1,x2,x3\n{lines}").into_bytes()
}

/// Random bits, as many as are vectors: text has to give every one of them back.
#[test]
fn text_gives_back_every_bit() {
    let work = Workplace::new();
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut component = || loop {
        let x = f32::from_bits(rng.random());
        if x.abs() < 1e18 {
            return x;
        }
    };
    let rows: Vec<Vec<f32>> = (0..500).map(|_| (0..16).map(|_| component()).collect()).collect();
    work.write("bits.fvecs", &fvecs(&rows));
    work.succeeds(["import", "s", "c", "bits.fvecs", "--metric", "l2"]);
    for name in ["bits.jsonl", "bits.csv"] {
        work.succeeds(["export", "s", "c", name]);
        let store = format!("{name}.store");
        work.succeeds(["import", &store, "c", name, "--metric", "l2"]);
        assert_eq!(bits(&work.contents(&store)), bits(&numbered(&rows)), "{name}");
    }
}

/// Under the cosine metric too, which a library may normalise for.
#[test]
fn vectors_are_kept_as_they_are_given() {
    let work = Workplace::with_store();
    assert_eq!(work.json(["stats", "s"])["collections"][0]["metric"], "cosine");
    work.succeeds(["export", "s", "c", "again.fvecs"]);
    assert_eq!(fs::read(work.path("again.fvecs")).unwrap(), fs::read(work.path("base.fvecs")).unwrap());
}

#[test]
fn numpy_arrays_of_every_float_are_read() {
    let work = Workplace::new();
    let expected = [vec![0.5, -2.0, 1.0], vec![65504.0, 2.0_f32.powi(-24), 3.0]];
    let halves: [u16; 6] = [0x3800, 0xc000, 0x3c00, 0x7bff, 0x0001, 0x4200];
    let flat: Vec<f32> = expected.iter().flatten().copied().collect();
    let wide = |to: fn(f64) -> [u8; 8]| flat.iter().flat_map(|&x| to(x.into())).collect::<Vec<u8>>();
    let files: [(&str, Vec<u8>); 6] = [
        ("<f2", halves.iter().flat_map(|half| half.to_le_bytes()).collect()),
        (">f2", halves.iter().flat_map(|half| half.to_be_bytes()).collect()),
        ("<f4", little(&expected)),
        (">f4", flat.iter().flat_map(|x| x.to_be_bytes()).collect()),
        ("<f8", wide(f64::to_le_bytes)),
        (">f8", wide(f64::to_be_bytes)),
    ];
    for (number, (descr, elements)) in files.into_iter().enumerate() {
        let (name, store) = (format!("{number}.npy"), number.to_string());
        work.write(&name, &npy(descr, "(2, 3)", elements));
        work.succeeds(["import", &store, "c", &name, "--metric", "l2"]);
        assert_eq!(bits(&work.contents(&store)), bits(&numbered(&expected)), "{descr}");
    }
}

#[test]
fn keys_come_from_the_file_or_from_one_of_their_own() {
    let work = Workplace::new();
    let rows: Vec<Vec<f32>> = work.base[..3].to_vec();
    work.write("x.fvecs", &fvecs(&rows));
    let keys = [9, u64::MAX, 2];
    let expected = [(2, rows[2].clone()), (9, rows[0].clone()), (u64::MAX, rows[1].clone())];
    work.write("keys.txt", b"9\n\n18446744073709551615\r\n2\n");
    work.write("keys.npy", &npy("<u8", "(3,)", keys.iter().flat_map(|key| key.to_le_bytes())));
    let ascending: Vec<u8> = expected.iter().flat_map(|(key, _)| key.to_le_bytes()).collect();
    for list in ["keys.txt", "keys.npy"] {
        let store = format!("{list}.store");
        work.succeeds(["import", &store, "c", "x.fvecs", "--keys", list, "--batch", "2"]);
        assert_eq!(work.contents(&store), expected, "{list}");
        // Vectors and keys together are the collection again.
        work.succeeds(["export", &store, "c", "out.fvecs", "--keys", "out.txt"]);
        assert_eq!(fs::read(work.path("out.txt")).unwrap(), b"2\n9\n18446744073709551615\n");
        work.succeeds(["export", &store, "c", "out.fvecs", "--keys", "out.npy"]);
        assert_eq!(fs::read(work.path("out.npy")).unwrap(), npy("<u8", "(3,)", ascending.iter().copied()));
        work.fails(["export", &store, "c", "lost.fvecs"], &["row 0 has key 2", "--keys FILE"]);
        assert!(!work.path("lost.fvecs").exists() && !work.path("lost.fvecs.partial").exists());
    }
    // A row's key is the one in its place of the list, whatever is passed over.
    work.succeeds(["import", "skipped", "c", "x.fvecs", "--keys", "keys.txt", "--skip", "1"]);
    assert_eq!(work.contents("skipped"), [expected[0].clone(), expected[2].clone()]);

    work.write(
        "x.jsonl",
        b"{\"id\":5,\"key\":1,\"title\":\"a, b\",\"e\":[1,2.5]}\n\n{\"e\":[-3e0,4],\"id\":6}\n",
    );
    let fields = ["--vector-field", "e", "--key-field", "id"];
    work.succeeds(["import", "json", "c", "x.jsonl"].into_iter().chain(fields));
    assert_eq!(work.contents("json"), [(5, vec![1.0, 2.5]), (6, vec![-3.0, 4.0])]);
    work.succeeds(["import", "first", "c", "x.jsonl", "--vector-field", "e", "--first-key", "70"]);
    assert_eq!(work.contents("first"), [(70, vec![1.0, 2.5]), (71, vec![-3.0, 4.0])]);

    let pair = [(0, vec![1.0, 2.5]), (1, vec![-3.0, 4.0])];
    let keyed = [(7, vec![1.0, 2.5]), (8, vec![-3.0, 4.0])];
    let cases: [(&[u8], &[&str], Keyed<'_>); 4] = [
        (b"1,2.5\n-3,4", &[], &pair),
        (b"a, b\r\n1, 2.5\r\n-3, 4\r\n", &[], &pair),
        (b"a,\"key\",b\n1,7,2.5\n\"-3\",8,4\n", &[], &keyed),
        (b"1,7,2.5\n-3,8,4\n", &["--key-field", "1"], &keyed),
    ];
    for (number, (file, options, expected)) in cases.into_iter().enumerate() {
        let store = format!("csv{number}");
        work.write("x.csv", file);
        work.succeeds(["import", &store, "c", "x.csv"].into_iter().chain(options.iter().copied()));
        assert_eq!(work.contents(&store), expected, "{}", text(file));
    }
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused() {
    let work = Workplace::new();
    let vectors = little(&rows());
    let mut too_many = bin_header(&rows());
    too_many[3] = 0x7f;
    let header = |descr: &str, shape: &str| npy(descr, shape, vectors.iter().copied());
    let fortran = text(&header("<f4", "(8, 4)")[10..127]).replace("False", "True ");
    let fortran = [&b"\x93NUMPY\x01\x00v\x00"[..], fortran.as_bytes(), b"\n", &vectors].concat();
    let numbers = "1,".repeat(9 << 20);
    let cases: [(&str, Vec<u8>, &[&str]); 29] = [
        ("x.bin", vec![], &["nothing tells the format of x.bin", "--format"]),
        ("x.fbin", fbin(&rows())[..7].to_vec(), &["x.fbin ends inside the header, after 7 of its 8 bytes"]),
        ("x.fbin", too_many, &["the header of x.fbin announces 34091303048 bytes in all, the file has 8"]),
        ("x.fbin", fbin(&rows())[..99].to_vec(), &["announces 136 bytes in all, the file has 99", "fetch"]),
        ("x.fbin", [1, 0, 0, 0, 0, 0, 0, 0].to_vec(), &["the header of x.fbin states a width of 0"]),
        ("x.u8bin", [1, 0, 0, 0, 0, 0, 1, 0].to_vec(), &["states a width of 65536, and 1 to 65535"]),
        ("x.u8bin", [0, 0, 0, 0, 4, 0, 0, 0].to_vec(), &["x.u8bin is empty"]),
        ("x.bvecs", [2, 0, 0, 0, 7].to_vec(), &["x.bvecs ends inside row 0, after 5 of its 6 bytes"]),
        ("x.npy", b"\x93NUMPX\x01\x00v\x00".to_vec(), &["the header of x.npy does not begin"]),
        ("x.npy", header("<f4", "(9, 4)"), &["announces 272 bytes in all, the file has 256"]),
        ("x.npy", header("<f4", "(8, 4)")[..60].to_vec(), &["ends inside the header, after 50 of its 118"]),
        ("x.npy", header("<f4", "(32,)"), &["states 1 dimensions", "reshape"]),
        ("x.npy", header("<i4", "(8, 4)"), &["elements that are no floats", "astype"]),
        ("x.npy", header("<c8", "(8, 2)"), &["elements of type <c8", "astype"]),
        ("x.npy", header("<f4", "(18446744073709551615, 18446744073709551615)"), &["larger than any file"]),
        ("x.npy", header("<f4", "(-8, 4)"), &["is not a dictionary"]),
        ("x.npy", fortran, &["Fortran's order", "ascontiguousarray"]),
        ("x.jsonl", b"{\"vector\":[1,2]}\nnonsense\n".to_vec(), &["line 2 of x.jsonl is no JSON object"]),
        ("x.jsonl", b"{\"vector\":[1,2]}\n{\"vector\":[1,2".to_vec(), &["line 2 of x.jsonl is no JSON"]),
        ("x.jsonl", b"{\"key\":-1,\"vector\":[1]}".to_vec(), &["line 1 of x.jsonl has \"-1\" for a key"]),
        ("x.jsonl", b"{\"key\":1.5,\"vector\":[1]}".to_vec(), &["\"1.5\" for a key", "whole numbers"]),
        ("x.jsonl", b"{\"key\":18446744073709551616,\"vector\":[1]}".to_vec(), &["for a key"]),
        ("x.jsonl", b"{\"vector\":[1,null]}".to_vec(), &["line 1", "\"null\" at component 1"]),
        ("x.jsonl", b"{\"vector\":[1e39]}".to_vec(), &["\"1e39\" at component 0", "no finite f32"]),
        ("x.jsonl", b"{\"embedding\":[1]}".to_vec(), &["no field \"vector\"", "--vector-field"]),
        (
            "x.jsonl",
            b"{\"key\":3,\"vector\":[1]}\n{\"key\":3,\"vector\":[2]}".to_vec(),
            &["line 2 of x.jsonl has key 3, which an earlier one has"],
        ),
        ("x.csv", b"key,x\n1,2\n2,NaN\n".to_vec(), &["line 3 of x.csv has \"NaN\" at component 0"]),
        ("x.csv", b"1,2\n1,2,3\n".to_vec(), &["line 2 of x.csv has a width of 3, the rows before it 2"]),
        ("x.csv", numbers.into_bytes(), &["line 1 of x.csv is longer than"]),
    ];
    for (name, file, parts) in cases {
        work.write(name, &file);
        work.fails(["import", "s", "c", name], parts);
        assert!(!work.path("s").exists(), "{parts:?} left a store behind");
    }
    work.write("x.npy", &npy("<f4", "(8, 4)", little(&rows())));
    work.fails(
        ["import", "s", "c", "x.npy", "--dimension", "5"],
        &["vectors of 4 components, the command says 5"],
    );
    work.fails(["export", "s", "c", "x.fvecs"], &["no store at s"]);
    work.is_misuse(["import", "s", "c", "x.npy", "--format", "parquet"]);
    work.is_misuse(["import", "s", "c", "x.npy", "--first-key", "1", "--keys", "k"]);
}

#[test]
fn lists_of_keys_that_do_not_fit_are_refused() {
    let work = Workplace::new();
    work.write("x.fvecs", &fvecs(&work.base[..3]));
    let signed = npy("<i8", "(3,)", [1_i64, -2, 3].into_iter().flat_map(i64::to_le_bytes));
    let cases: [(&str, &[u8], &[&str]); 6] = [
        ("k.txt", b"1\n2\n", &["k.txt has no key for row 2 of x.fvecs"]),
        ("k.txt", b"1\n2\n3\n4\n", &["k.txt has more keys than x.fvecs has rows"]),
        ("k.txt", b"1\n2\n1\n", &["row 2 of x.fvecs has key 1, which an earlier one has as well"]),
        ("k.txt", b"1\n-2\n3\n", &["line 2 of k.txt has \"-2\" for a key"]),
        ("k.npy", &signed, &["row 1 of k.npy is below 0"]),
        ("k.npy", b"1\n2\n3\n", &["k.npy ends inside the header, after 6 of its 8 bytes"]),
    ];
    for (name, list, parts) in cases {
        work.write(name, list);
        work.fails(["import", "s", "c", "x.fvecs", "--keys", name], parts);
        assert!(!work.path("s").exists(), "{parts:?} left a store behind");
    }
}

/// What came before the bad line stays, and the advice leads to the whole.
#[test]
fn a_bad_line_leaves_the_batches_before_it() {
    let work = Workplace::new();
    let mut lines: Vec<String> = text(&jsonl(&work.base)).lines().map(str::to_owned).collect();
    lines[320] = lines[320].replace("\"key\":320", "\"key\":-320");
    work.write("bad.jsonl", lines.join("\n").as_bytes());
    work.fails(
        ["import", "s", "c", "bad.jsonl", "--batch", "100"],
        &[
            "line 321 of bad.jsonl has \"-320\" for a key",
            "300 rows were imported before that and stay; go on from there with --skip 300\n",
        ],
    );
    assert_eq!(work.contents("s"), numbered(&work.base[..300]));
    lines[320] = lines[320].replace("-320", "320");
    work.write("good.jsonl", lines.join("\n").as_bytes());
    work.succeeds(["import", "s", "c", "good.jsonl", "--skip", "300"]);
    assert_eq!(work.contents("s"), numbered(&work.base));
}

/// Only whole numbers fit into a byte; what cannot be written leaves no file.
#[test]
fn what_a_format_cannot_hold_is_not_exported() {
    let work = Workplace::with_store();
    work.write("kept.u8bin", b"what was there before");
    for name in ["out.bvecs", "kept.u8bin"] {
        work.fails(["export", "s", "c", name], &["key 0 has ", "whole numbers from 0 to 255", ".fvecs"]);
        assert!(!work.path(&format!("{name}.partial")).exists());
    }
    assert!(!work.path("out.bvecs").exists());
    assert_eq!(fs::read(work.path("kept.u8bin")).unwrap(), b"what was there before");
    work.fails(["export", "s", "c", "out.usearch"], &["usearch indexes are read only"]);
    work.fails(["export", "s", "c", "no/where.npy"], &["cannot write no/where.npy", "check the path"]);
    work.fails(["export", "s", "x", "out.npy"], &["no collection \"x\"", "it has \"c\""]);
}
