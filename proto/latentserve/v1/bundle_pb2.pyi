from google.protobuf import timestamp_pb2 as _timestamp_pb2
from latentserve.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_VAE: _ClassVar[ModelKind]
    MODEL_KIND_GAN: _ClassVar[ModelKind]
    MODEL_KIND_AUTOENCODER: _ClassVar[ModelKind]
    MODEL_KIND_VQ: _ClassVar[ModelKind]

class Prior(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIOR_UNSPECIFIED: _ClassVar[Prior]
    PRIOR_STANDARD_NORMAL: _ClassVar[Prior]
    PRIOR_MIXTURE: _ClassVar[Prior]
    PRIOR_GRAPH: _ClassVar[Prior]

class Likelihood(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIKELIHOOD_UNSPECIFIED: _ClassVar[Likelihood]
    LIKELIHOOD_BERNOULLI: _ClassVar[Likelihood]
    LIKELIHOOD_GAUSSIAN: _ClassVar[Likelihood]
    LIKELIHOOD_DISCRETIZED_LOGISTIC: _ClassVar[Likelihood]

class GraphRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAPH_ROLE_UNSPECIFIED: _ClassVar[GraphRole]
    GRAPH_ROLE_ENCODER: _ClassVar[GraphRole]
    GRAPH_ROLE_DECODER: _ClassVar[GraphRole]
    GRAPH_ROLE_PRIOR: _ClassVar[GraphRole]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]

class ResizeFilter(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESIZE_FILTER_UNSPECIFIED: _ClassVar[ResizeFilter]
    RESIZE_FILTER_NEAREST: _ClassVar[ResizeFilter]
    RESIZE_FILTER_BOX: _ClassVar[ResizeFilter]
    RESIZE_FILTER_BILINEAR: _ClassVar[ResizeFilter]
    RESIZE_FILTER_BICUBIC: _ClassVar[ResizeFilter]
    RESIZE_FILTER_LANCZOS: _ClassVar[ResizeFilter]

class Fit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIT_UNSPECIFIED: _ClassVar[Fit]
    FIT_STRETCH: _ClassVar[Fit]
    FIT_CROP: _ClassVar[Fit]

class GreyWeights(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GREY_WEIGHTS_UNSPECIFIED: _ClassVar[GreyWeights]
    GREY_WEIGHTS_REC601: _ClassVar[GreyWeights]
    GREY_WEIGHTS_REC709: _ClassVar[GreyWeights]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_VAE: ModelKind
MODEL_KIND_GAN: ModelKind
MODEL_KIND_AUTOENCODER: ModelKind
MODEL_KIND_VQ: ModelKind
PRIOR_UNSPECIFIED: Prior
PRIOR_STANDARD_NORMAL: Prior
PRIOR_MIXTURE: Prior
PRIOR_GRAPH: Prior
LIKELIHOOD_UNSPECIFIED: Likelihood
LIKELIHOOD_BERNOULLI: Likelihood
LIKELIHOOD_GAUSSIAN: Likelihood
LIKELIHOOD_DISCRETIZED_LOGISTIC: Likelihood
GRAPH_ROLE_UNSPECIFIED: GraphRole
GRAPH_ROLE_ENCODER: GraphRole
GRAPH_ROLE_DECODER: GraphRole
GRAPH_ROLE_PRIOR: GraphRole
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_FLOAT16: Precision
PRECISION_INT8: Precision
RESIZE_FILTER_UNSPECIFIED: ResizeFilter
RESIZE_FILTER_NEAREST: ResizeFilter
RESIZE_FILTER_BOX: ResizeFilter
RESIZE_FILTER_BILINEAR: ResizeFilter
RESIZE_FILTER_BICUBIC: ResizeFilter
RESIZE_FILTER_LANCZOS: ResizeFilter
FIT_UNSPECIFIED: Fit
FIT_STRETCH: Fit
FIT_CROP: Fit
GREY_WEIGHTS_UNSPECIFIED: GreyWeights
GREY_WEIGHTS_REC601: GreyWeights
GREY_WEIGHTS_REC709: GreyWeights

class LatentSpec(_message.Message):
    __slots__ = ("dim", "prior", "mixture", "shape", "codes", "noise_dim")
    DIM_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    MIXTURE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    NOISE_DIM_FIELD_NUMBER: _ClassVar[int]
    dim: int
    prior: Prior
    mixture: Mixture
    shape: _containers.RepeatedScalarFieldContainer[int]
    codes: int
    noise_dim: int
    def __init__(self, dim: _Optional[int] = ..., prior: _Optional[_Union[Prior, str]] = ..., mixture: _Optional[_Union[Mixture, _Mapping]] = ..., shape: _Optional[_Iterable[int]] = ..., codes: _Optional[int] = ..., noise_dim: _Optional[int] = ...) -> None: ...

class NoiseInput(_message.Message):
    __slots__ = ("name", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Psi(_message.Message):
    __slots__ = ("default_value", "min_value", "max_value")
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_FIELD_NUMBER: _ClassVar[int]
    default_value: float
    min_value: float
    max_value: float
    def __init__(self, default_value: _Optional[float] = ..., min_value: _Optional[float] = ..., max_value: _Optional[float] = ...) -> None: ...

class Mixture(_message.Message):
    __slots__ = ("components", "file")
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    components: int
    file: File
    def __init__(self, components: _Optional[int] = ..., file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class LabelSpec(_message.Message):
    __slots__ = ("count", "names")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    count: int
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, count: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("negative_elbo_quantiles", "images", "latent_means", "latent_variances")
    NEGATIVE_ELBO_QUANTILES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENT_MEANS_FIELD_NUMBER: _ClassVar[int]
    LATENT_VARIANCES_FIELD_NUMBER: _ClassVar[int]
    negative_elbo_quantiles: _containers.RepeatedScalarFieldContainer[float]
    images: int
    latent_means: _containers.RepeatedScalarFieldContainer[float]
    latent_variances: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, negative_elbo_quantiles: _Optional[_Iterable[float]] = ..., images: _Optional[int] = ..., latent_means: _Optional[_Iterable[float]] = ..., latent_variances: _Optional[_Iterable[float]] = ...) -> None: ...

class ImageSpec(_message.Message):
    __slots__ = ("channels", "height", "width", "min_value", "max_value", "reading")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    MIN_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAX_VALUE_FIELD_NUMBER: _ClassVar[int]
    READING_FIELD_NUMBER: _ClassVar[int]
    channels: int
    height: int
    width: int
    min_value: float
    max_value: float
    reading: PictureReading
    def __init__(self, channels: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., min_value: _Optional[float] = ..., max_value: _Optional[float] = ..., reading: _Optional[_Union[PictureReading, _Mapping]] = ...) -> None: ...

class Colour(_message.Message):
    __slots__ = ("red", "green", "blue")
    RED_FIELD_NUMBER: _ClassVar[int]
    GREEN_FIELD_NUMBER: _ClassVar[int]
    BLUE_FIELD_NUMBER: _ClassVar[int]
    red: int
    green: int
    blue: int
    def __init__(self, red: _Optional[int] = ..., green: _Optional[int] = ..., blue: _Optional[int] = ...) -> None: ...

class PictureReading(_message.Message):
    __slots__ = ("upright", "background", "grey", "fit", "filter")
    UPRIGHT_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    GREY_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    upright: bool
    background: Colour
    grey: GreyWeights
    fit: Fit
    filter: ResizeFilter
    def __init__(self, upright: bool = ..., background: _Optional[_Union[Colour, _Mapping]] = ..., grey: _Optional[_Union[GreyWeights, str]] = ..., fit: _Optional[_Union[Fit, str]] = ..., filter: _Optional[_Union[ResizeFilter, str]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: _tensor_pb2.DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[_Union[_tensor_pb2.DType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("role", "file", "inputs", "outputs", "opset", "parity_max_abs_error", "precision", "conversion", "batch_dependent", "batch_rows", "weights")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OPSET_FIELD_NUMBER: _ClassVar[int]
    PARITY_MAX_ABS_ERROR_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CONVERSION_FIELD_NUMBER: _ClassVar[int]
    BATCH_DEPENDENT_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    role: GraphRole
    file: File
    inputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    opset: int
    parity_max_abs_error: float
    precision: Precision
    conversion: Conversion
    batch_dependent: bool
    batch_rows: int
    weights: File
    def __init__(self, role: _Optional[_Union[GraphRole, str]] = ..., file: _Optional[_Union[File, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., opset: _Optional[int] = ..., parity_max_abs_error: _Optional[float] = ..., precision: _Optional[_Union[Precision, str]] = ..., conversion: _Optional[_Union[Conversion, _Mapping]] = ..., batch_dependent: bool = ..., batch_rows: _Optional[int] = ..., weights: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class Conversion(_message.Message):
    __slots__ = ("psnr_db", "fid_shift", "speedup", "nll_shift_nats", "golden_psnr_db", "weight_bits")
    PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    FID_SHIFT_FIELD_NUMBER: _ClassVar[int]
    SPEEDUP_FIELD_NUMBER: _ClassVar[int]
    NLL_SHIFT_NATS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_PSNR_DB_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_BITS_FIELD_NUMBER: _ClassVar[int]
    psnr_db: float
    fid_shift: float
    speedup: float
    nll_shift_nats: float
    golden_psnr_db: float
    weight_bits: int
    def __init__(self, psnr_db: _Optional[float] = ..., fid_shift: _Optional[float] = ..., speedup: _Optional[float] = ..., nll_shift_nats: _Optional[float] = ..., golden_psnr_db: _Optional[float] = ..., weight_bits: _Optional[int] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("created_at", "family", "dataset", "dataset_sha256", "config_json", "git_commit", "software", "training_steps", "checkpoint_sha256")
    class SoftwareEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_SHA256_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    GIT_COMMIT_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    TRAINING_STEPS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SHA256_FIELD_NUMBER: _ClassVar[int]
    created_at: _timestamp_pb2.Timestamp
    family: str
    dataset: str
    dataset_sha256: str
    config_json: str
    git_commit: str
    software: _containers.ScalarMap[str, str]
    training_steps: int
    checkpoint_sha256: str
    def __init__(self, created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., family: _Optional[str] = ..., dataset: _Optional[str] = ..., dataset_sha256: _Optional[str] = ..., config_json: _Optional[str] = ..., git_commit: _Optional[str] = ..., software: _Optional[_Mapping[str, str]] = ..., training_steps: _Optional[int] = ..., checkpoint_sha256: _Optional[str] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("format_version", "name", "kind", "latent", "image", "likelihood", "graphs", "golden", "files", "provenance", "metrics", "license", "labels", "calibration", "noises", "psi")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LATENT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LICENSE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    NOISES_FIELD_NUMBER: _ClassVar[int]
    PSI_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    name: str
    kind: ModelKind
    latent: LatentSpec
    image: ImageSpec
    likelihood: Likelihood
    graphs: _containers.RepeatedCompositeFieldContainer[Graph]
    golden: File
    files: _containers.RepeatedCompositeFieldContainer[File]
    provenance: Provenance
    metrics: _containers.ScalarMap[str, float]
    license: str
    labels: LabelSpec
    calibration: Calibration
    noises: _containers.RepeatedCompositeFieldContainer[NoiseInput]
    psi: Psi
    def __init__(self, format_version: _Optional[int] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., latent: _Optional[_Union[LatentSpec, _Mapping]] = ..., image: _Optional[_Union[ImageSpec, _Mapping]] = ..., likelihood: _Optional[_Union[Likelihood, str]] = ..., graphs: _Optional[_Iterable[_Union[Graph, _Mapping]]] = ..., golden: _Optional[_Union[File, _Mapping]] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., license: _Optional[str] = ..., labels: _Optional[_Union[LabelSpec, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., noises: _Optional[_Iterable[_Union[NoiseInput, _Mapping]]] = ..., psi: _Optional[_Union[Psi, _Mapping]] = ...) -> None: ...
