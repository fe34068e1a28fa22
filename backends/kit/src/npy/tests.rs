use super::*;

fn parse(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    fs_err::write(&path, bytes).unwrap();
    Tensor::read(&path)
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn every_type_survives_a_round_trip() {
    fn check<T: Element + PartialEq + std::fmt::Debug>(shape: &[usize], elements: &[T]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let tensor = Tensor::new(shape, elements).unwrap();
        tensor.write(&path).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        assert_eq!((bytes.len() - tensor.bytes().len()) % ALIGNMENT_BYTES, 0);
        let back = Tensor::read(&path).unwrap();
        assert_eq!(back, tensor);
        assert_eq!(back.elements::<T>().unwrap(), elements);
        assert_eq!(ElementType::from_name(T::TYPE.name()), Some(T::TYPE));
        assert_eq!(T::TYPE.size_bytes(), size_of::<T>());
    }
    check(&[2, 1], &[half::f16::from_f32(1.5), half::f16::NAN.min(half::f16::MAX)]);
    check(&[1], &[half::bf16::from_f32(-2.0)]);
    check(&[], &[1.25_f32]);
    check(&[0, 3], &[] as &[f64]);
    check(&[3], &[i8::MIN, 0, i8::MAX]);
    check(&[2], &[i16::MIN, i16::MAX]);
    check(&[1], &[i32::MIN]);
    check(&[1], &[i64::MIN]);
    check(&[2], &[0_u8, 255]);
    check(&[1], &[u16::MAX]);
    check(&[1], &[u32::MAX]);
    check(&[1], &[u64::MAX]);
    check(&[1, 2, 1], &[true, false]);
}

#[test]
fn numpys_own_bytes_are_read() {
    // numpy.save of numpy.array([[1, 2]], dtype="<f4"), NumPy 2.3.
    let header =
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".to_owned() + &" ".repeat(58) + "\n";
    let tensor = parse(&file(&header, &[0, 0, 128, 63, 0, 0, 0, 64])).unwrap();
    assert_eq!(tensor.shape(), [1, 2]);
    assert_eq!(tensor.to_f64(), [1.0, 2.0]);
}

#[test]
fn bad_files_are_errors_that_say_why() {
    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let message = parse(bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let header = |descr: &str, order: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    };
    check(b"", "does not begin with the magic bytes of NPY");
    check(b"\x93NUMPY", "ends inside its header");
    check(b"\x93NUMPY\x03\x00\x00\x00\x00\x00", "version 3.0");
    check(b"\x93NUMPY\x01\x00\xff\xff{", "ends inside its header");
    check(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "ends inside its header");
    check(&file("nothing", b""), "bad header");
    check(&file("{'descr': '<f4'}", b""), "lacks");
    check(&file("{'descr'", b""), "bad header");
    check(&file("{'shape': (1}", b""), "bad header");
    check(&file(&header(">f4", "False", "(1,)"), &[0; 4]), "'>f4'");
    check(&file(&header("<f4", "True", "(1,)"), &[0; 4]), "Fortran");
    check(&file(&header("<f4", "False", "(-1,)"), &[0; 4]), "bad shape");
    check(&file(&header("<f4", "False", "(2,)"), &[0; 4]), "4 bytes of data");
    check(&file(&header("<f4", "False", "(9999999999, 9999999999)"), &[0; 4]), "4 bytes of data");
    check(&file(&header("<f8", "False", "(4611686018427387904,)"), &[]), "0 bytes of data");
}

#[test]
fn folders_and_devices_are_refused() {
    assert!(matches!(Tensor::read(Path::new("/dev/zero")), Err(NpyError::Format { .. })));
    assert!(Tensor::read(Path::new("/dev/null/x")).is_err());
}

#[test]
fn rows_are_read_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let whole = Tensor::new(&[3, 2], &[1i16, 2, 3, 4, 5, 6]).unwrap();
    whole.write(&path).unwrap();
    let file = NpyFile::open(&path).unwrap();
    assert_eq!((file.shape(), file.element_type(), file.row_bytes()), (&[3, 2][..], ElementType::Int16, 4));
    for (first, count) in [(0, 1), (1, 2), (2, 5), (7, 1)] {
        assert_eq!(file.rows(first, count).unwrap(), whole.rows(first, count));
    }
    assert_eq!(file.whole().unwrap(), whole);
    fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(132).unwrap();
    assert_eq!(file.rows(0, 1).unwrap(), whole.rows(0, 1));
    assert!(file.rows(0, 3).unwrap_err().to_string().ends_with("it became shorter"));
}
