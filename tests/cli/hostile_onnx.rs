//! Models that want to break the reader: an error that says what is wrong, never a panic, an overflow, a hang or a
//! huge allocation.
//!
//! Of how nodes are wired, circles and values that are made twice are refused: the order of nodes, and values that
//! nothing makes, are the compilers' to judge. Here they must do no harm.
//!
//! `prost` helps: it gives up below 100 messages within each other, and its vectors grow by what is really there,
//! whatever a length says.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use nimctl::backend::facts_of;
use nimctl::error_kind::ErrorKind;
use nimctl::onnx::lower::lower;
use nimctl::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use nimctl::onnx::{LoweringOptions, OnnxError, OnnxFile, Precision, Summary};
use prost::Message as _;

use crate::home::{Home, Printed};
use crate::recipes::{GENERIC, X_RANGE, recipe};
use crate::small_models::{self, branch, external_tensor, floats, graph, model, node, tensor, value, with};

/// Address space of a run, in kB: what the program itself takes, and no file's claims.
const MAX_MEMORY_KB: u32 = 400_000;
/// Lengths that no file has.
const HUGE: [(&str, u64); 3] = [("2^31", 1 << 31), ("2^62", 1 << 62), ("2^64 - 1", u64::MAX)];

/// Runs in little memory, and not for long.
fn run(home: &Home, arguments: &[&str]) -> Printed {
    let inner = home.command(arguments);
    let mut limited = Command::new("/bin/sh");
    limited
        .args(["-c", &format!("ulimit -v {MAX_MEMORY_KB}; exec timeout 30 \"$0\" \"$@\"")])
        .arg(inner.get_program())
        .args(inner.get_args())
        .current_dir(home.folder())
        .env_clear()
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    home.printed(&limited.output().unwrap())
}

/// A home with a recipe of `m.onnx`, and what external tensors may name beside it.
fn home() -> Home {
    let home = Home::new();
    home.write("r.yaml", recipe(X_RANGE, GENERIC).replace("graph.onnx", "folder/m.onnx"));
    home.write("folder/w.bin", "<".repeat(small_models::EXTERNAL_BYTES));
    home.write("outside.bin", "<".repeat(small_models::EXTERNAL_BYTES));
    fs_err::create_dir(home.path("folder/inner")).unwrap();
    for (target, link) in [
        ("../outside.bin", "link_out"),
        ("..", "link_to_parent"),
        ("/dev/zero", "link_to_zero"),
        ("w.bin", "link_inside"),
        ("circle", "circle"),
    ] {
        std::os::unix::fs::symlink(target, home.path("folder").join(link)).unwrap();
    }
    rustix::fs::mkfifoat(rustix::fs::CWD, home.path("folder/pipe"), rustix::fs::Mode::RWXU).unwrap();
    home
}

/// Writes each case as `folder/m.onnx`, and returns what `inspect` and `build --dry-run` say of it.
fn said_of(cases: Vec<(String, Vec<u8>)>) -> String {
    let home = home();
    let mut text = String::new();
    for (name, bytes) in cases {
        fs_err::write(home.path("folder/m.onnx"), &bytes).unwrap();
        let _ = writeln!(text, "# {name}");
        let inspect = run(&home, &["inspect", "folder/m.onnx"]);
        let build = run(&home, &["build", "r.yaml", "--dry-run"]);
        let of_inspect = error_of(&inspect, &name);
        let of_build = error_of(&build, &name);
        let of_build =
            if of_inspect.is_empty() { of_build } else { of_build.replace(&of_inspect, "<the same>") };
        let _ = writeln!(text, "  inspect: {}", in_a_word(&of_inspect));
        let _ = writeln!(text, "  build: {}", in_a_word(&of_build));
        lowering_says(&home.path("folder/m.onnx"), &name);
    }
    text
}

/// Returns what was wrong, if anything: exit code 1 and one line.
fn error_of(printed: &Printed, name: &str) -> String {
    let error = printed.stderr.trim_end();
    match (printed.code, error.strip_prefix("error: ")) {
        (Some(0), None) => String::new(),
        (Some(1), Some(error)) if !error.contains('\n') => error.into(),
        _ => panic!("{name}: {printed}"),
    }
}

fn in_a_word(error: &str) -> &str {
    if error.is_empty() { "ok" } else { error }
}

/// Lowers in this process: an error of the input, or files that open again.
fn lowering_says(path: &Path, name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let destination = folder.path().join("lowered.onnx");
    let options = LoweringOptions::new(Precision::Fp16, facts_of("onnxruntime").fp32_inside);
    match OnnxFile::open(path).and_then(|file| lower(&file, &options, &destination)) {
        Ok(_) => drop(OnnxFile::open(&destination).unwrap()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Input, "{name}: {error}"),
    }
}

fn encoded(cases: Vec<(&str, ModelProto)>) -> Vec<(String, Vec<u8>)> {
    cases.into_iter().map(|(name, model)| (name.into(), model.encode_to_vec())).collect()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of bytes with whatever length it claims.
fn claiming(field: u64, length: u64, contents: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(length), contents.to_vec()].concat()
}

fn field(number: u64, contents: &[u8]) -> Vec<u8> {
    claiming(number, contents.len() as u64, contents)
}

/// IR version and operator set, and then this.
fn headed(rest: &[u8]) -> Vec<u8> {
    [&[0x08, 10], field(8, &[0x10, 21]).as_slice(), rest].concat()
}

#[test]
fn files_that_are_none_or_are_cut_off() {
    let (_, whole) = small_models::all().remove(0);
    let mut cases = vec![
        ("random bytes".to_owned(), vec![0xff; 64]),
        ("nothing".to_owned(), vec![]),
        ("zeros".to_owned(), vec![0; 64]),
        ("a graph of text".to_owned(), headed(&field(7, b"no graph at all"))),
        ("a name that is no text".to_owned(), headed(&field(7, &field(2, &[0xff, 0xfe])))),
    ];
    for end in [1, 2, 3, whole.len() / 4, whole.len() / 2, whole.len() - 20, whole.len() - 1] {
        cases.push((format!("{end} of {} bytes", whole.len()), whole[..end].into()));
    }
    let text = said_of(cases);
    insta::assert_snapshot!(text);
}

#[test]
fn lengths_that_no_file_has() {
    let mut cases = Vec::new();
    for (name, length) in HUGE {
        let node = claiming(1, length, b"x");
        let raw = [&[0x08, 1, 0x10, 1], claiming(9, length, &[0; 4]).as_slice()].concat();
        let packed = [&[0x08, 1, 0x10, 1], claiming(4, length, &[0; 4]).as_slice()].concat();
        cases.extend([
            (format!("a graph of {name} bytes"), headed(&claiming(7, length, b"x"))),
            (format!("a node of {name} bytes"), headed(&field(7, &node))),
            (
                format!("an operator's name of {name} bytes"),
                headed(&field(7, &field(1, &claiming(4, length, b"x")))),
            ),
            (format!("a payload of {name} bytes"), headed(&field(7, &field(5, &raw)))),
            (format!("packed floats of {name} bytes"), headed(&field(7, &field(5, &packed)))),
            (format!("an unknown field of {name} bytes"), headed(&claiming(99, length, b"x"))),
        ]);
    }
    let text = said_of(cases);
    insta::assert_snapshot!(text);
}

#[test]
fn depth_without_end() {
    let mut graph = field(2, b"innermost");
    let mut kind = vec![];
    for _ in 0..10_000 {
        graph = field(
            1,
            &[field(4, b"If"), field(5, &[field(1, b"then_branch"), field(6, &graph)].concat())].concat(),
        );
        kind = field(4, &field(1, &kind));
    }
    let groups = [[0x9b, 0x06].repeat(10_000), [0x9c, 0x06].repeat(10_000)].concat();
    let mut shallow = GraphProto { node: vec![node("Relu", &["x"], "y")], ..GraphProto::default() };
    for _ in 0..30 {
        let nested = with(vec![branch("then_branch", shallow)], node("If", &["x"], "y"));
        shallow = GraphProto { node: vec![nested], ..GraphProto::default() };
    }
    shallow.input = vec![value("x", &["N", "4"])];
    let text = said_of(vec![
        ("If in If, 10,000 deep".into(), headed(&field(7, &graph))),
        ("sequences of sequences, 10,000 deep".into(), headed(&field(7, &field(11, &field(2, &kind))))),
        ("unknown groups, 10,000 deep".into(), headed(&groups)),
        ("If in If, 30 deep".into(), model(shallow).encode_to_vec()),
    ]);
    insta::assert_snapshot!(text);
}

/// Two bytes each in the file, and hundreds in memory.
#[test]
fn parts_that_are_empty() {
    let many = 500_000;
    let text = said_of(vec![
        ("nodes".into(), headed(&field(7, &[0x0a, 0].repeat(many)))),
        ("attributes of a node".into(), headed(&field(7, &field(1, &[0x2a, 0].repeat(many))))),
        ("weights".into(), headed(&field(7, &[0x2a, 0].repeat(many)))),
        ("dimensions".into(), {
            let shape = field(2, &[0x0a, 0].repeat(many));
            headed(&field(7, &field(11, &field(2, &field(1, &shape)))))
        }),
        ("functions".into(), headed(&[0xca, 0x01, 0].repeat(many))),
        ("names of a node".into(), headed(&field(7, &field(1, &[0x0a, 0].repeat(many))))),
    ]);
    insta::assert_snapshot!(text);
}

#[test]
fn graphs_that_make_no_sense() {
    let calls_itself = FunctionProto {
        name: Some("F".into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: vec![NodeProto { domain: Some("own".into()), ..node("F", &["a"], "b") }],
        ..FunctionProto::default()
    };
    let call = NodeProto { domain: Some("own".into()), ..node("F", &["x"], "y") };
    let of = |nodes| model(graph(nodes, vec![]));
    let many = with(vec![], NodeProto { input: vec![String::new(); 1000], ..NodeProto::default() });
    let text = said_of(encoded(vec![
        ("a node that reads its own output", of(vec![node("Add", &["x", "y"], "y")])),
        (
            "two nodes that wait for each other",
            of(vec![node("Add", &["x", "b"], "a"), node("Add", &["a", "x"], "b"), node("Relu", &["b"], "y")]),
        ),
        ("a function that calls itself", ModelProto { functions: vec![calls_itself], ..of(vec![call]) }),
        (
            "a branch that reads what its own node makes",
            of(vec![with(
                vec![branch("then_branch", graph(vec![node("Relu", &["y"], "z")], vec![]))],
                node("If", &["x"], "y"),
            )]),
        ),
        (
            "two nodes in a branch that wait for each other",
            of(vec![with(
                vec![branch(
                    "then_branch",
                    graph(vec![node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b")], vec![]),
                )],
                node("If", &["x"], "y"),
            )]),
        ),
        (
            "a branch that names its output as its node does",
            of(vec![with(
                vec![branch("then_branch", graph(vec![node("Relu", &["x"], "y")], vec![]))],
                node("If", &["x"], "y"),
            )]),
        ),
        ("nodes in the wrong order", of(vec![node("Relu", &["a"], "y"), node("Abs", &["x"], "a")])),
        ("two nodes with one output", of(vec![node("Relu", &["x"], "y"), node("Abs", &["x"], "y")])),
        (
            "a node that makes a weight",
            model(graph(vec![node("Relu", &["x"], "w")], vec![floats("w", &[1.0])])),
        ),
        ("a node that makes an input", of(vec![node("Relu", &["x"], "x")])),
        ("two inputs of one name", {
            let mut graph = graph(vec![node("Relu", &["x"], "y")], vec![]);
            graph.input.push(value("x", &["N"]));
            model(graph)
        }),
        ("an output that nothing makes", of(vec![])),
        ("an input that nothing makes", of(vec![node("Relu", &["nowhere"], "y")])),
        ("nodes without operator or names", of(vec![NodeProto::default(), many])),
        ("no inputs and no outputs", model(GraphProto::default())),
        (
            "two weights of one name",
            model(graph(vec![node("Add", &["x", "w"], "y")], vec![floats("w", &[1.0]), floats("w", &[2.0])])),
        ),
    ]));
    insta::assert_snapshot!(text);
}

#[test]
fn tensors_with_impossible_shapes_and_sizes() {
    let of = |tensor| model(graph(vec![node("Add", &["x", "w"], "y")], vec![tensor]));
    let with_4_bytes = |data_type, dims: &[i64]| {
        of(TensorProto { raw_data: Some(vec![0; 4].into()), ..tensor("w", data_type, dims) })
    };
    let text = said_of(encoded(vec![
        ("more elements than 64 bits count", with_4_bytes(1, &[1 << 62, 1 << 62])),
        ("more bytes than 64 bits count", with_4_bytes(11, &[i64::MAX])),
        ("2^60 elements", with_4_bytes(1, &[1 << 60])),
        ("a negative dimension", with_4_bytes(1, &[-1])),
        ("the least dimension", with_4_bytes(1, &[i64::MIN, i64::MIN])),
        ("no elements", with_4_bytes(1, &[0, i64::MAX, i64::MAX])),
        ("an unknown type", with_4_bytes(99, &[1])),
        ("a negative type", with_4_bytes(-1, &[1])),
        ("no type", with_4_bytes(0, &[1])),
        ("text in bytes", with_4_bytes(8, &[1])),
        (
            "text outside",
            of(TensorProto { data_type: Some(8), ..external_tensor("w", &[1], &[("location", "w.bin")]) }),
        ),
        ("a payload in two places", of(TensorProto { float_data: vec![1.0], ..floats("w", &[1.0]) })),
        ("a name of a terminal's commands", of(tensor("w\u{1b}[2J\r", 1, &[1]))),
    ]));
    insta::assert_snapshot!(text);
}

#[test]
fn external_data_in_hostile_places() {
    let longest = "n".repeat(5000);
    let deepest = "a/".repeat(3000);
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    let mut case = |name: &str, entries: &[(&str, &str)]| {
        let weights = external_tensor("w", &[4], entries);
        let model = model(graph(vec![node("Add", &["x", "w"], "y")], vec![weights]));
        cases.push((name.into(), model.encode_to_vec()));
    };
    for (name, location) in [
        ("beside the model", "w.bin"),
        ("a link inside the folder", "link_inside"),
        ("the model itself", "m.onnx"),
        ("an absolute path", "/etc/passwd"),
        ("the folder above", "../outside.bin"),
        ("the folder above, later", "inner/../../outside.bin"),
        ("a link out of the folder", "link_out"),
        ("a file beyond a link out of the folder", "link_to_parent/outside.bin"),
        ("a device beyond a link", "link_to_zero"),
        ("a link to itself", "circle"),
        ("a folder", "inner"),
        ("the folder itself", "."),
        ("a named pipe", "pipe"),
        ("a file in a file", "w.bin/w.bin"),
        ("a name with a zero in it", "w\0.bin"),
        ("no name", ""),
        ("a name that is too long", &longest),
        ("a path that is too long", &deepest),
    ] {
        case(name, &[("location", location)]);
    }
    for (name, key, number) in [
        ("an offset at the end of all numbers", "offset", "18446744073709551615"),
        ("an offset beyond all numbers", "offset", "18446744073709551616"),
        ("a negative offset", "offset", "-1"),
        ("an offset beyond the file", "offset", "1000000"),
        ("a length beyond the file", "length", "1000000"),
        ("a length of nothing", "length", "0"),
        ("a length in words", "length", "many"),
    ] {
        case(name, &[("location", "w.bin"), (key, number)]);
    }
    let mut text = said_of(cases);
    for (name, place) in [(&longest, "<5000 bytes>"), (&deepest, "<3000 folders>")] {
        text = text.replace(name.trim_end_matches('/'), place);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn models_that_are_no_files() {
    let home = home();
    for path in ["folder", "folder/pipe", "folder/link_to_zero", "/dev/null"] {
        run(&home, &["inspect", path]).exits(1).has(&["cannot read", "is not a regular file"]);
    }
    run(&home, &["inspect", "folder/circle"]).exits(1).has(&["Too many levels of symbolic links"]);
}

/// Reads all that the library reads.
fn read(bytes: &[u8]) -> Result<Summary, OnnxError> {
    let file = OnnxFile::from_bytes(Path::new("/nonexistent/m.onnx"), bytes.to_vec().into())?;
    Summary::of(&file)
}

#[test]
fn every_cut_and_every_changed_byte() {
    for (name, bytes) in small_models::all() {
        for end in 0..bytes.len() {
            // A cut between two fields leaves a model that is whole.
            if let Err(error) = read(&bytes[..end]) {
                assert_eq!(error.kind(), ErrorKind::Input, "{name} of {end} bytes: {error}");
            }
        }
        let mut changed = bytes.clone();
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(8)] {
                changed[at] = value;
                if let Err(error) = read(&changed) {
                    assert_eq!(error.kind(), ErrorKind::Input, "{name}, byte {at} set to {value}: {error}");
                }
            }
            changed[at] = bytes[at];
        }
    }
}

#[test]
fn many_inputs_and_weights_take_no_square_of_time() {
    let many = 20_000;
    let names: Vec<String> = (0..many).map(|number| format!("input{number}")).collect();
    let mut graph = graph(vec![], names.iter().map(|name| floats(name, &[])).collect());
    graph.input = names.iter().map(|name| value(&format!("{name}x"), &[])).collect();
    let start = std::time::Instant::now();
    assert_eq!(read(&model(graph).encode_to_vec()).unwrap().inputs.len(), many);
    assert!(start.elapsed().as_secs() < 5, "it took {:?}", start.elapsed());
}

/// The fuzzer's seeds are made here, so that they follow the builders: with `NIMCTL_WRITE_SEEDS=1` this writes them.
#[test]
fn the_fuzzer_starts_from_the_small_models() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/onnx_reader");
    let mut total_bytes = 0;
    for (name, bytes) in small_models::all() {
        total_bytes += bytes.len();
        assert!(bytes.len() < 4096, "{name} is too large for a seed");
        let path = folder.join(format!("{name}.onnx"));
        if std::env::var_os("NIMCTL_WRITE_SEEDS").is_some() {
            fs_err::write(&path, &bytes).unwrap();
        }
        assert!(fs_err::read(&path).unwrap() == bytes, "{name}: run this test with NIMCTL_WRITE_SEEDS=1");
    }
    assert!(total_bytes < 60_000);
}
