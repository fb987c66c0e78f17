"""A table of vectors, one for each code."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfvae._plain.checks import choice, whole
from tfvae.errors import InvalidArgument, InvalidData
from tfvae.quantizers.quantizer import Quantizer

SIMILARITIES = ("euclidean", "cosine")


class Codebook(Quantizer):
    """The base of quantizers with a table of K vectors: the table, its start, and `lookup`.

    With `similarity="cosine"` vectors and rows are scaled to length 1 before anything else, and so
    is what `lookup` returns; the nearest row is then the one of the smallest angle. Source: Yu et
    al. 2022, "Vector-quantized image modeling with improved VQGAN", sec. 3.2.

    Args:
        num_embeddings: K.
        embedding_dim: D.
        initializer: "uniform", U(−√(3/D), √(3/D)), rows of expected squared length 1; "kmeans",
            the centres of the data given to `initialize`; or a Keras initializer. Random tables
            start from Keras's global seed, as the weights of other layers do, unless the
            initializer has a seed.
        similarity: "euclidean" or "cosine".
        seed: any integer, of k-means; subclasses say what else it decides.

    Raises:
        InvalidArgument: a size below 1, or a name that does not exist.
    """

    trains_table = True

    def __init__(
        self,
        num_embeddings: int = 512,
        embedding_dim: int = 64,
        *,
        initializer: str | keras.Initializer = "uniform",
        similarity: str = "euclidean",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(embedding_dim, whole("num_embeddings", num_embeddings), seed, **kwargs)
        self.num_embeddings = self.codebook_size
        self.initializer = _initializer(initializer)
        self.similarity = choice("similarity", similarity, SIMILARITIES)

    def build(self, input_shape):
        """Add the table, and the weight that says whether it waits for data."""
        super().build(input_shape)
        initializer = self.initializer
        if isinstance(initializer, str):
            bound = math.sqrt(3 / self.embedding_dim)
            initializer = keras.initializers.RandomUniform(-bound, bound)
        shape = (self.num_embeddings, self.embedding_dim)
        self.table = self.add_state("table", shape, initializer, trainable=self.trains_table)
        if self.initializer == "kmeans":
            # A weight, so that a loaded model does not wait for data again.
            self.started = self.add_state("started", (), "zeros", dtype="int32")

    def codebook(self) -> tf.Tensor:
        """Return the vectors of all codes, `[K, D]`."""
        self.ensure_built()
        return self.project(tf.convert_to_tensor(self.table))

    def lookup(self, codes):
        """Return the rows of the codebook, `[..., D]`."""
        return tf.gather(self.codebook(), codes)

    def project(self, vectors: tf.Tensor) -> tf.Tensor:
        """Return vectors as they are compared: unchanged, or scaled to length 1."""
        return tf.math.l2_normalize(vectors, axis=-1) if self.similarity == "cosine" else vectors

    @property
    def needs_data(self) -> bool:
        """Whether the table waits for `initialize`."""
        return self.initializer == "kmeans" and not (self.built and int(self.started.numpy()))

    def initialize(self, vectors):
        """Set the table to the centres of k-means, where the initializer is "kmeans".

        k-means++ and up to 50 of Lloyd's iterations, from the quantizer's seed. A second call does
        nothing.

        Args:
            vectors: `[..., D]`, at least K different ones; 50 K give good centres. `fit` takes them
                from its data, `train_on_batch` from its first batch alone.

        Raises:
            InvalidData: fewer than K different vectors, of the wrong size, or not finite.
        """
        if not self.needs_data:
            return
        self.ensure_built()
        vectors = np.asarray(vectors, np.float32)
        if not np.all(np.isfinite(vectors)):
            raise InvalidData("k-means got vectors that are not finite. Check the encoder.")
        self._check_size(vectors.shape)
        vectors = np.asarray(self.project(tf.reshape(vectors, [-1, self.embedding_dim])))
        self.table.assign(_centres(vectors, self.num_embeddings, self.seed))
        self.started.assign(1)

    def get_config(self):
        initializer = self.initializer
        if not isinstance(initializer, str):
            initializer = keras.initializers.serialize(initializer)
        own = {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "initializer": initializer,
            "similarity": self.similarity,
        }
        return {**super().get_config(), **own}


def _initializer(identifier):
    if identifier in ("uniform", "kmeans"):
        return identifier
    try:
        return keras.initializers.get(identifier)
    except ValueError:
        raise InvalidArgument(
            f"`initializer` is {identifier!r}; expected 'uniform', 'kmeans' or a Keras initializer."
        ) from None


def _centres(vectors, count, seed):
    # Only this start needs scikit-learn, which takes a second to import.
    from sklearn.cluster import KMeans

    distinct = len(np.unique(vectors, axis=0))
    if distinct < count:
        raise InvalidData(
            f"k-means got {len(vectors)} vectors, {distinct} of them different; expected at least "
            f"num_embeddings = {count}. Give `initialize` more data, or use fewer codes."
        )
    kmeans = KMeans(count, init="k-means++", n_init=1, max_iter=50, random_state=seed % 2**32)
    return kmeans.fit(vectors).cluster_centers_
