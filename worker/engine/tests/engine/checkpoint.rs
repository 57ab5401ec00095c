//! Containers beyond the fixtures, and hostile files: refused by name, never a crash, never memory for nothing.

use std::path::PathBuf;

use nightshift_engine::checkpoint::Checkpoint;

fn golden(name: &str) -> PathBuf {
    super::golden().with_file_name("movqgan").join(name)
}

/// Opens bytes as a file and reads every tensor.
fn open(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let checkpoint = Checkpoint::open(file.path()).map_err(|error| error.to_string())?;
    let read = |name: &String| {
        Ok((name.clone(), checkpoint.read_f32(name).map_err(|error| error.to_string())?))
    };
    checkpoint.entries().keys().map(read).collect()
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).expect_err("the file is refused")
}

/// A zip file of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, body) in entries {
        let sizes = [(body.len() as u32).to_le_bytes(), (body.len() as u32).to_le_bytes()].concat();
        let name_len = (name.len() as u16).to_le_bytes();
        let start = (file.len() as u32).to_le_bytes();
        file.extend(
            [&b"PK\x03\x04"[..], &[0; 14], &sizes, &name_len, &[0, 0], name.as_bytes(), body]
                .concat(),
        );
        directory.extend(
            [&b"PK\x01\x02"[..], &[0; 16], &sizes, &name_len, &[0; 12], &start, name.as_bytes()]
                .concat(),
        );
    }
    let start = (file.len() as u32).to_le_bytes();
    let length = (directory.len() as u32).to_le_bytes();
    file.extend(directory);
    file.extend([&b"PK\x05\x06"[..], &[0; 8], &length, &start, &[0, 0]].concat());
    file
}

/// `{"w": tensor}` over storage "0" of `len` floats with one-byte sizes, protocol 2.
fn pickle(len: u8, offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let numbers = |n: &[u8]| {
        [&b"("[..], &n.iter().flat_map(|&v| [b'K', v]).collect::<Vec<_>>(), b"t"].concat()
    };
    let storage = [
        &b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK"[..],
        &[len],
        b"tQ",
    ]
    .concat();
    let arguments =
        [&b"("[..], &storage, b"K", &[offset], &numbers(shape), &numbers(strides), b"\x89)t"]
            .concat();
    [&b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n"[..], &arguments, b"Rs."].concat()
}

fn floats(n: u8) -> Vec<u8> {
    (0..n).flat_map(|v| f32::from(v).to_le_bytes()).collect()
}

#[test]
fn views_are_read_through_offset_and_strides_whatever_the_root_is_called() {
    let data = floats(7);
    let bytes =
        zip(&[("any name/data.pkl", &pickle(7, 1, &[2, 3], &[1, 2])), ("any name/data/0", &data)]);
    assert_eq!(open(&bytes).unwrap(), [("w".to_owned(), vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0])]);
}

#[test]
fn views_that_leave_their_storage_are_refused() {
    let file = |pickle: &[u8], data: &[u8]| zip(&[("a/data.pkl", pickle), ("a/data/0", data)]);
    for (len, offset, shape, strides) in
        [(7, 2, [2u8, 3], [1u8, 2]), (6, 0, [2, 4], [4, 1]), (2, 0, [200, 200], [0, 0])]
    {
        let reason = refusal(&file(&pickle(len, offset, &shape, &strides), &floats(len)));
        assert!(
            reason.contains("tensor `w`") && reason.contains("does not fit its storage"),
            "{reason}"
        );
    }
    let short = refusal(&file(&pickle(7, 0, &[7], &[1]), &floats(3)));
    assert!(short.contains("its storage has 12 bytes, not 7 elements"), "{short}");
    let missing = refusal(&zip(&[("a/data.pkl", &pickle(7, 0, &[7], &[1]))]));
    assert!(missing.contains("storage `a/data/0` is missing"), "{missing}");
}

#[test]
fn imports_and_opcodes_are_refused_by_name() {
    let file = |pickle: &[u8]| refusal(&zip(&[("a/data.pkl", pickle)]));
    assert!(file(b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.").contains("imports `os.system`"));
    assert!(file(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("imports `builtins.eval`"));
    assert!(file(b"\x80\x02cbuiltins\n__import__\n.").contains("imports `builtins.__import__`"));
    assert!(file(b"\x80\x02}\x81.").contains("opcode 0x81 is refused"));
    assert!(file(b"\x80\x02(i os\nsystem\n.").contains("opcode 0x69 is refused"));
    assert!(file(b"\x80\x02}}b}\x8a\xff.").contains("an integer of 255 bytes"));
    assert!(file(b"(dp0\n.").contains("opcode 0x64 is refused"));
    assert!(file(b"\x80\x02N.").contains("top level is not a dict"));
    assert!(file(b"\x80\x02}.").contains("there is no tensor in it"));
    assert!(file(b"\x80\x02}r\xff\xff\xff\x7f.").contains("memo index"));
}

#[test]
fn forms_that_are_not_read_are_named() {
    assert!(refusal(b"").contains("neither safetensors nor a PyTorch file"));
    assert!(refusal(b"hello").contains("neither safetensors nor a PyTorch file"));
    assert!(refusal(&zip(&[("a/b", b"")])).contains("without exactly one data.pkl"));
    let mut packed = zip(&[("a/data.pkl", b"\x80\x02}.")]);
    let at = packed.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    packed[at + 10] = 8;
    assert!(refusal(&packed).contains("compressed or encrypted"));
    let big = zip(&[
        ("a/data.pkl", &pickle(1, 0, &[1], &[1])[..]),
        ("a/byteorder", b"big"),
        ("a/data/0", &[0; 4]),
    ]);
    assert!(refusal(&big).contains("big-endian"));
    let cut = std::fs::read(golden("containers/flat_dict.ckpt")).unwrap();
    assert!(refusal(&cut[..cut.len() - 30]).contains("cut off"));
}

#[test]
fn safetensors_headers_are_not_believed() {
    let file = |length: u64, header: &str, data: &[u8]| {
        [&length.to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let own = |header: &str, data: &[u8]| refusal(&file(header.len() as u64, header, data));
    assert!(refusal(&file(u64::MAX, "{", b"")).contains("beyond its end"));
    assert!(
        own(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 4])
            .contains("tensor `w`: its data lies beyond")
    );
    assert!(
        own(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#, &[0; 8])
            .contains("do not make the shape")
    );
    assert!(
        own(r#"{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#, &[0; 1])
            .contains("F8_E4M3 is not supported")
    );
    let huge = r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
    assert!(own(huge, &[0; 8]).contains("overflows"), "{}", own(huge, &[0; 8]));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let file = |header: &str, data: usize| {
        refusal(
            &[&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat(),
        )
    };
    let tensor = |name: &str, start: usize, end: usize| {
        format!(
            r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{start},{end}]}}"#,
            end - start
        )
    };
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    let twice = file(&two(tensor("w", 0, 4), tensor("w", 4, 8)), 8);
    assert!(twice.contains("`w` is described twice"), "{twice}");
    let key = r#"{"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(file(key, 1).contains("duplicate field `dtype`"), "{}", file(key, 1));
    let overlap = file(&two(tensor("v", 0, 5), tensor("w", 4, 8)), 8);
    assert!(overlap.contains("`w`") && overlap.contains("overlaps"), "{overlap}");
    let gap = file(&two(tensor("v", 0, 3), tensor("w", 4, 8)), 8);
    assert!(gap.contains("`w`") && gap.contains("leaves a gap"), "{gap}");
    let rest = file(&format!("{{{}}}", tensor("w", 0, 4)), 9);
    assert!(rest.contains("5 bytes at its end belong to no tensor"), "{rest}");
}

#[test]
fn mutated_files_never_panic() {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut below = |n: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for name in [
        "flat_ordereddict_with_metadata",
        "legacy_nonzip",
        "views_shared_storage_noncontiguous",
        "lightning_state_dict",
    ] {
        let whole = std::fs::read(golden(&format!("containers/{name}.ckpt"))).unwrap();
        for _ in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + below(4) {
                // Most of a file is tensor data; aim at its structure too.
                let at =
                    if below(2) == 0 { below(bytes.len().min(700)) } else { below(bytes.len()) };
                bytes[at] = below(256) as u8;
            }
            if below(8) == 0 {
                bytes.truncate(below(bytes.len()));
            }
            // Either outcome is fine.
            let _ = open(&bytes);
        }
    }
}
