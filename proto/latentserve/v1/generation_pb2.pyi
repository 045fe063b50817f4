from latentserve.v1 import bundle_pb2 as _bundle_pb2
from latentserve.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_FLOAT32: _ClassVar[ImageFormat]
    IMAGE_FORMAT_UINT8: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_FLOAT16: _ClassVar[ImageFormat]
    IMAGE_FORMAT_JPEG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_WEBP: _ClassVar[ImageFormat]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BULK: _ClassVar[Priority]

class Path(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PATH_UNSPECIFIED: _ClassVar[Path]
    PATH_LINEAR: _ClassVar[Path]
    PATH_SPHERICAL: _ClassVar[Path]
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_FLOAT32: ImageFormat
IMAGE_FORMAT_UINT8: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_FLOAT16: ImageFormat
IMAGE_FORMAT_JPEG: ImageFormat
IMAGE_FORMAT_WEBP: ImageFormat
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BULK: Priority
PATH_UNSPECIFIED: Path
PATH_LINEAR: Path
PATH_SPHERICAL: Path

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "alias")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    alias: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., alias: _Optional[str] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("format", "grid_columns", "bands")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    GRID_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    BANDS_FIELD_NUMBER: _ClassVar[int]
    format: ImageFormat
    grid_columns: int
    bands: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, format: _Optional[_Union[ImageFormat, str]] = ..., grid_columns: _Optional[int] = ..., bands: _Optional[_Iterable[int]] = ...) -> None: ...

class EncodedImages(_message.Message):
    __slots__ = ("files", "resize")
    FILES_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[bytes]
    resize: bool
    def __init__(self, files: _Optional[_Iterable[bytes]] = ..., resize: bool = ...) -> None: ...

class Images(_message.Message):
    __slots__ = ("tensor", "encoded")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    tensor: _tensor_pb2.Tensor
    encoded: EncodedImages
    def __init__(self, tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., encoded: _Optional[_Union[EncodedImages, _Mapping]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_ns", "compute_ns", "total_ns", "batch_rows")
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    queue_ns: int
    compute_ns: int
    total_ns: int
    batch_rows: int
    def __init__(self, queue_ns: _Optional[int] = ..., compute_ns: _Optional[int] = ..., total_ns: _Optional[int] = ..., batch_rows: _Optional[int] = ...) -> None: ...

class Served(_message.Message):
    __slots__ = ("model", "version", "timing", "numerics")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    timing: Timing
    numerics: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., numerics: _Optional[str] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("model", "count", "seed", "first_index", "output", "priority", "shaping", "prior", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SHAPING_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    count: int
    seed: int
    first_index: int
    output: Output
    priority: Priority
    shaping: Shaping
    prior: _bundle_pb2.Prior
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., first_index: _Optional[int] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., shaping: _Optional[_Union[Shaping, _Mapping]] = ..., prior: _Optional[_Union[_bundle_pb2.Prior, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class Shaping(_message.Message):
    __slots__ = ("temperature", "truncation", "psi")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    PSI_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    truncation: float
    psi: float
    def __init__(self, temperature: _Optional[float] = ..., truncation: _Optional[float] = ..., psi: _Optional[float] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("images", "seed", "noise_scheme", "served", "labels")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEME_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    images: Images
    seed: int
    noise_scheme: str
    served: Served
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., seed: _Optional[int] = ..., noise_scheme: _Optional[str] = ..., served: _Optional[_Union[Served, _Mapping]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class Draw(_message.Message):
    __slots__ = ("seed", "first_index")
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    seed: int
    first_index: int
    def __init__(self, seed: _Optional[int] = ..., first_index: _Optional[int] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("model", "images", "draw", "priority", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: Images
    draw: Draw
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., draw: _Optional[_Union[Draw, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("mean", "log_variance", "z", "seed", "noise_scheme", "served", "codes")
    MEAN_FIELD_NUMBER: _ClassVar[int]
    LOG_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    Z_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEME_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    mean: _tensor_pb2.Tensor
    log_variance: _tensor_pb2.Tensor
    z: _tensor_pb2.Tensor
    seed: int
    noise_scheme: str
    served: Served
    codes: _tensor_pb2.Tensor
    def __init__(self, mean: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., log_variance: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., z: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., seed: _Optional[int] = ..., noise_scheme: _Optional[str] = ..., served: _Optional[_Union[Served, _Mapping]] = ..., codes: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("model", "latents", "output", "priority", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    latents: _tensor_pb2.Tensor
    output: Output
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., latents: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("images", "served")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    images: Images
    served: Served
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., served: _Optional[_Union[Served, _Mapping]] = ...) -> None: ...

class ReconstructRequest(_message.Message):
    __slots__ = ("model", "images", "output", "priority", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: Images
    output: Output
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class ReconstructResponse(_message.Message):
    __slots__ = ("images", "reconstruction_error", "kl", "served")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCTION_ERROR_FIELD_NUMBER: _ClassVar[int]
    KL_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    images: Images
    reconstruction_error: _containers.RepeatedScalarFieldContainer[float]
    kl: _containers.RepeatedScalarFieldContainer[float]
    served: Served
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., reconstruction_error: _Optional[_Iterable[float]] = ..., kl: _Optional[_Iterable[float]] = ..., served: _Optional[_Union[Served, _Mapping]] = ...) -> None: ...

class StreamSamplesRequest(_message.Message):
    __slots__ = ("model", "count", "seed", "first_index", "output", "chunk_rows", "priority", "shaping", "prior", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ROWS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SHAPING_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    count: int
    seed: int
    first_index: int
    output: Output
    chunk_rows: int
    priority: Priority
    shaping: Shaping
    prior: _bundle_pb2.Prior
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., first_index: _Optional[int] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., chunk_rows: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., shaping: _Optional[_Union[Shaping, _Mapping]] = ..., prior: _Optional[_Union[_bundle_pb2.Prior, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class StreamSamplesResponse(_message.Message):
    __slots__ = ("images", "first_index", "seed", "noise_scheme", "served", "labels")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEME_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    images: Images
    first_index: int
    seed: int
    noise_scheme: str
    served: Served
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., first_index: _Optional[int] = ..., seed: _Optional[int] = ..., noise_scheme: _Optional[str] = ..., served: _Optional[_Union[Served, _Mapping]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class Seeds(_message.Message):
    __slots__ = ("seeds",)
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class Points(_message.Message):
    __slots__ = ("latents", "seeds", "images")
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    latents: _tensor_pb2.Tensor
    seeds: Seeds
    images: Images
    def __init__(self, latents: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., seeds: _Optional[_Union[Seeds, _Mapping]] = ..., images: _Optional[_Union[Images, _Mapping]] = ...) -> None: ...

class InterpolateRequest(_message.Message):
    __slots__ = ("model", "to", "steps", "path", "output", "priority", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    to: Points
    steps: int
    path: Path
    output: Output
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., to: _Optional[_Union[Points, _Mapping]] = ..., steps: _Optional[int] = ..., path: _Optional[_Union[Path, str]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ..., **kwargs) -> None: ...

class InterpolateResponse(_message.Message):
    __slots__ = ("images", "latents", "served")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: _tensor_pb2.Tensor
    served: Served
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., served: _Optional[_Union[Served, _Mapping]] = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("dimension", "low", "high", "steps")
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    dimension: int
    low: float
    high: float
    steps: int
    def __init__(self, dimension: _Optional[int] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class TraverseRequest(_message.Message):
    __slots__ = ("model", "origin", "axes", "output", "priority", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    origin: Points
    axes: _containers.RepeatedCompositeFieldContainer[Axis]
    output: Output
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., origin: _Optional[_Union[Points, _Mapping]] = ..., axes: _Optional[_Iterable[_Union[Axis, _Mapping]]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ...) -> None: ...

class TraverseResponse(_message.Message):
    __slots__ = ("images", "latents", "served")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: _tensor_pb2.Tensor
    served: Served
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., served: _Optional[_Union[Served, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model", "images", "draws", "seed", "first_index", "priority", "labels", "map")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    images: Images
    draws: int
    seed: int
    first_index: int
    priority: Priority
    labels: _containers.RepeatedScalarFieldContainer[int]
    map: Output
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., draws: _Optional[int] = ..., seed: _Optional[int] = ..., first_index: _Optional[int] = ..., priority: _Optional[_Union[Priority, str]] = ..., labels: _Optional[_Iterable[int]] = ..., map: _Optional[_Union[Output, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("reconstruction_error", "kl", "elbo", "importance_bound", "served", "anomaly_percentile", "map")
    RECONSTRUCTION_ERROR_FIELD_NUMBER: _ClassVar[int]
    KL_FIELD_NUMBER: _ClassVar[int]
    ELBO_FIELD_NUMBER: _ClassVar[int]
    IMPORTANCE_BOUND_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    ANOMALY_PERCENTILE_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    reconstruction_error: _containers.RepeatedScalarFieldContainer[float]
    kl: _containers.RepeatedScalarFieldContainer[float]
    elbo: _containers.RepeatedScalarFieldContainer[float]
    importance_bound: _containers.RepeatedScalarFieldContainer[float]
    served: Served
    anomaly_percentile: _containers.RepeatedScalarFieldContainer[float]
    map: Images
    def __init__(self, reconstruction_error: _Optional[_Iterable[float]] = ..., kl: _Optional[_Iterable[float]] = ..., elbo: _Optional[_Iterable[float]] = ..., importance_bound: _Optional[_Iterable[float]] = ..., served: _Optional[_Union[Served, _Mapping]] = ..., anomaly_percentile: _Optional[_Iterable[float]] = ..., map: _Optional[_Union[Images, _Mapping]] = ...) -> None: ...
