"""A `.tflite` file as a C array, for builds without a file system."""

import re
from pathlib import Path

from tfvae._plain.files import atomic, check_writable
from tfvae.ondevice import flatfile, inspect

_PER_LINE = 16


def c_header(file: str | Path | bytes, path: str | Path) -> int:
    """Write the bytes of a `.tflite` as a C header, with its signatures in comments.

    The array is named after the header: `decoder.h` has `decoder_tflite` and `decoder_tflite_len`.
    It is aligned to 16 bytes, as LiteRT for Microcontrollers requires, and is valid C11 and C++11.

    Args:
        file: a path, or the bytes of a file.
        path: the header; what is there is replaced.

    Returns:
        The size of the header in bytes.

    Raises:
        InvalidFile: it is no `.tflite`, or the header cannot be written.
    """
    path = Path(path)
    check_writable(path)
    content, _ = flatfile.read(file)
    text = _header(content, inspect(file), path.stem)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return len(text.encode())


def _header(content, info, stem):
    name = re.sub(r"\W", "_", stem)
    name = f"_{name}" if name[:1].isdigit() else name
    guard = f"{name.upper()}_TFLITE_H_"
    lines = (content[i : i + _PER_LINE] for i in range(0, len(content), _PER_LINE))
    return "\n".join(
        [
            f"// {len(content):,} bytes of a LiteRT model.",
            # In C11, ??/ stands for a backslash, which would join this line and the next.
            *(line.replace("??", "�") for line in _comments(info)),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#ifdef __cplusplus",
            "#define TFVAE_ALIGNED alignas(16)",
            "#else",
            "#define TFVAE_ALIGNED _Alignas(16)",
            "#endif",
            "",
            f"TFVAE_ALIGNED static const unsigned char {name}_tflite[] = {{",
            *(f"    0x{line.hex(',').replace(',', ', 0x')}," for line in lines),
            "};",
            f"static const unsigned int {name}_tflite_len = {len(content)};",
            "",
            "#undef TFVAE_ALIGNED",
            f"#endif  // {guard}",
            "",
        ]
    )


def _comments(info):
    yield "//"
    for name, signature in info.signatures.items():
        yield f"// {name}"
        for word, tensors in (("takes", signature.inputs), ("gives", signature.outputs)):
            for tensor in tensors:
                yield f"//   {word} {tensor}"
