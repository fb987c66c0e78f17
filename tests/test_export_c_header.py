import re
import shutil
import subprocess

import numpy as np
import pytest

from tfvae import export
from tfvae.errors import InvalidFile

pytestmark = pytest.mark.slow  # Converts models.


@pytest.fixture(scope="module")
def file(make_vae, tmp_path_factory):
    path = tmp_path_factory.mktemp("c_header") / "decoder.tflite"
    export.litert(make_vae(), path, signatures=["decode", "sample"])
    return path


def test_the_header_holds_the_bytes_of_the_file(file, tmp_path):
    size = export.c_header(file, tmp_path / "my-model.h")
    text = (tmp_path / "my-model.h").read_text()
    assert size == len(text)
    body = re.search(r"unsigned char my_model_tflite\[\] = \{(.*)\};", text, re.DOTALL)[1]
    found = np.array([int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", body)], np.uint8)
    assert found.tobytes() == file.read_bytes()
    assert f"my_model_tflite_len = {len(found)};" in text


def test_the_comments_name_signatures_and_shapes(file, tmp_path):
    export.c_header(file.read_bytes(), tmp_path / "decoder.h")
    text = (tmp_path / "decoder.h").read_text()
    assert (
        "// decode_1\n//   takes latents: float32 [1, 2]\n//   gives image: float32 [1, 4, 4"
        in text
    )
    assert "//   takes latents: float32 [any, 2]" in text


def test_a_name_that_begins_with_a_digit_is_made_one_of_c(file, tmp_path):
    export.c_header(file, tmp_path / "8bit.h")
    assert "unsigned char _8bit_tflite[]" in (tmp_path / "8bit.h").read_text()


@pytest.mark.parametrize(("compiler", "standard"), [("gcc", "c11"), ("g++", "c++11")])
def test_compilers_take_it(file, tmp_path, compiler, standard):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    export.c_header(file, tmp_path / "decoder.h")
    source = tmp_path / ("main.c" if compiler == "gcc" else "main.cpp")
    source.write_text(
        '#include <stdio.h>\n#include "decoder.h"\n#include "decoder.h"\n'
        "int main(void) {\n"
        "  if ((unsigned long)decoder_tflite % 16) return 1;\n"
        "  return fwrite(decoder_tflite, 1, decoder_tflite_len, stdout) != decoder_tflite_len;\n}\n"
    )
    program = tmp_path / "main"
    command = [compiler, f"-std={standard}", "-Wall", "-Wextra", "-Werror", source, "-o", program]
    subprocess.run(command, check=True)
    assert subprocess.run([program], capture_output=True, check=True).stdout == file.read_bytes()


def test_names_of_a_foreign_file_stay_in_their_comments(foreign_content, edited, tmp_path):
    def rename(model, schema):
        model.signatureDefs[0].signatureKey = "a\n#error??/"
        model.signatureDefs[0].inputs[0].name = "b\\"

    size = export.c_header(edited(foreign_content, rename), tmp_path / "decoder.h")
    assert size == (tmp_path / "decoder.h").stat().st_size
    text = (tmp_path / "decoder.h").read_text(encoding="utf-8")
    comments = text[: text.index("#ifndef")].splitlines()
    assert all(line.startswith("//") and not line.endswith(("\\", "??/")) for line in comments)


def test_what_is_no_tflite_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "a.txt").write_text("no model")
    for source in (tmp_path / "a.txt", tmp_path / "nothing", b"junk"):
        with pytest.raises(InvalidFile):
            export.c_header(source, tmp_path / "decoder.h")
    with pytest.raises(InvalidFile, match="it is a folder"):
        export.c_header(b"junk", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
