"""The nearest rows of a table, by one matrix product."""

import tensorflow as tf

# Tables from this size on are searched in blocks of vectors, so that no more than about
# BLOCK_ELEMENTS distances are held at a time. A smaller table takes one plain product, which
# LiteRT runs without a loop.
LARGE_TABLE = 4096
BLOCK_ELEMENTS = 2**24


def nearest(vectors: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Return argmin_k ‖z − e_k‖² for each vector z; of equal distances, the lowest k.

    The distances are compared by ‖e_k‖² − 2 z·e_k, since ‖z‖² is the same for every k: no
    `[N, K, D]` tensor is made. Vectors and table are taken relative to the centre of the table, or
    the digits of these terms would cancel where all of them lie far from 0. There is no gradient.

    On GPUs that support TF32, TensorFlow rounds the factors of float32 products to 11 bits, unless
    `tf.config.experimental.enable_tensor_float_32_execution(False)` is called: of two codes at
    nearly equal distances, the other one may then be chosen.

    Args:
        vectors: `[N, D]` float32.
        table: `[K, D]` float32, K known statically.

    Returns:
        `[N]` int32.
    """
    vectors, table = map(tf.stop_gradient, centred(vectors, table))
    squares = tf.reduce_sum(table**2, axis=-1)
    if table.shape[0] < LARGE_TABLE:
        return _nearest(vectors, table, squares)
    return _in_blocks(
        lambda block: _nearest(block, table, squares),
        vectors,
        max(1, BLOCK_ELEMENTS // table.shape[0]),
    )


def centred(vectors: tf.Tensor, table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return vectors and table less the centre of the table, at the same distances.

    The centre is the mean of rows that are clipped to three mean deviations around the mean before,
    twice: a code that has drifted far off, or is not finite, does not move it.
    """
    rows = tf.stop_gradient(tf.where(tf.math.is_finite(table), table, 0.0))
    centre = tf.reduce_mean(rows, axis=0)
    for _ in range(2):
        reach = 3.0 * tf.reduce_mean(tf.abs(rows - centre), axis=0)
        rows = tf.minimum(tf.maximum(rows, centre - reach), centre + reach)
        centre = tf.reduce_mean(rows, axis=0)
    return vectors - centre, table - centre


def _nearest(vectors, table, squares):
    scores = squares - 2.0 * tf.matmul(vectors, table, transpose_b=True)
    return tf.argmin(scores, axis=-1, output_type=tf.int32)


def _in_blocks(function, vectors, rows):
    """Apply a function `[rows, D] -> [rows]` to blocks of `vectors`, one after the other."""
    count = tf.shape(vectors)[0]
    blocks = tf.maximum(1, (count + rows - 1) // rows)
    padded = tf.pad(vectors, [[0, blocks * rows - count], [0, 0]])
    codes = tf.map_fn(
        function,
        tf.reshape(padded, [blocks, rows, vectors.shape[-1]]),
        fn_output_signature=tf.TensorSpec([rows], tf.int32),
        parallel_iterations=1,  # blocks side by side would each hold their distances
    )
    return tf.reshape(codes, [-1])[:count]
