"""MONAI Bundle import: a bundle's network, preprocessing, inferer and postprocessing become a Model; its code is not run.

What has no counterpart in a plan is refused, and what has nearly one is listed in the model's card: MONAI's `Spacingd` aligns the
centres of the corner voxels where a plan aligns edges, and a sliding window of constant weights becomes a Gaussian one. A bundle
that voxelry exported gives back the very model.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from voxelry.base.files import read_json
from voxelry.base.schema import parse
from voxelry.core.model import Model, ModelCard
from voxelry.core.plan import Plan
from voxelry.errors import ConfigError, CorruptFileError, MissingFileError, ModelError, UsageError
from voxelry.exchange.bundle_config import BundleConfig, read_config
from voxelry.exchange.bundle_export import OWN_FILE
from voxelry.exchange.bundle_mapping import mapped_bundle
from voxelry.exchange.bundle_network import WEIGHTS
from voxelry.exchange.bundle_stages import RUNS_TRUSTED
from voxelry.exchange.checkpoint_archive import FAILURES, read_archive, read_bare_pickle
from voxelry.exchange.foreign_values import understood
from voxelry.formats.dicom.archive import open_archive
from voxelry.networks.build import build_network
from voxelry.networks.custom import check_trusted
from voxelry.networks.network_spec import one_line
from voxelry.networks.weights import check_size, weights_of

MAX_BYTES = 32 * 2**30
"""Largest unpacked size of a bundle's archive."""

NESTED = ("model", "state_dict", "model_state_dict", "network_weights", "net")
"""Keys under which checkpoints hold the state dictionary."""


def import_bundle(source: Path, trust: bool = False) -> tuple[Model, ...]:
    """The model of a bundle, or the members of an ensemble that voxelry exported.

    Args:
        source: a bundle's folder, or a zip archive of it.
        trust: let MONAI run the expressions in the parts that are needed.

    Raises:
        ModelError: it asks for code, or has something that no plan can hold.
        ReadError: a file is missing or damaged.

    Example:
        >>> from pathlib import Path
        >>> from voxelry import VoxelryError
        >>> from voxelry.exchange import import_bundle
        >>> try:
        ...     import_bundle(Path("bundle"))
        ... except VoxelryError as error:
        ...     print(error.problem)
        bundle: no such file or folder
    """
    with opened_bundle(source) as bundle:
        if (bundle / OWN_FILE).is_file():
            return _own_models(bundle)
        config, metadata = read_config(bundle, "inference"), read_config(bundle, "metadata")
        if config is None or metadata is None:
            raise ModelError(
                f"{source}: no MONAI bundle (configs/inference.json and configs/metadata.json)",
                remedy="Give the folder that holds 'configs' and 'models'.",
            )
        if trust:
            config = BundleConfig(config.tree, config.file, evaluator(bundle, config))
        else:
            config.check()
        with understood(config.file, RUNS_TRUSTED):
            mapped = mapped_bundle(config, metadata.tree, bundle.name)
            state = read_state(bundle / mapped.weights)
            return (_model(mapped.plan, mapped.card, state, bundle / mapped.weights),)


@contextmanager
def opened_bundle(source: Path) -> Iterator[Path]:
    """A bundle's folder; of an archive it is unpacked for as long as it is needed.

    Raises:
        MissingFileError: nothing is there.
        ModelError: a member has a colon in its name, or the archive is too large.
        ReadError: the archive is damaged, encrypted, or unsafe to unpack.
    """
    if not source.exists():
        raise MissingFileError(f"{source}: no such file or folder")
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="voxelry-") as place:
        with open_archive(source) as archive:
            members = archive.members()
            if sum(member.entry.file_size for member in members) > MAX_BYTES:
                raise ModelError(f"{source}: unpacks to more than {MAX_BYTES >> 30} GiB")
            if any(":" in member.entry.filename for member in members):
                raise ModelError(f"{source}: a member has ':' in its name", remedy="Get the bundle from somebody you trust.")
            for member in members:
                archive.extract(member, Path(place, member.path.relative_to(source)))
        folders = [Path(place), *sorted(each for each in Path(place).iterdir() if each.is_dir())]
        yield next((each for each in folders if (each / "configs").is_dir()), Path(place))


def _own_models(bundle: Path) -> tuple[Model, ...]:
    """The models that voxelry exported, from their plans and cards."""
    file = bundle / OWN_FILE
    try:
        members = [
            (parse(Plan, each["plan"], str(file)), parse(ModelCard, each["card"], str(file)))
            for each in read_json(file)["members"]
        ]
    except (UsageError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: damaged ({error})", remedy="Export the model again.") from error
    state = read_state(bundle / WEIGHTS)
    for plan, _ in members:
        check_trusted(plan.network.name, None, bundle)
    return tuple(
        _model(plan, card, _member_state(state, number), bundle / WEIGHTS) for number, (plan, card) in enumerate(members)
    )


def _member_state(state: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """The weights of one network, without the prefix of those that are averaged."""
    start = f"networks.{number}.network.body."
    averaged = {name.removeprefix(start): weight for name, weight in state.items() if name.startswith(start)}
    return averaged or dict(state)


def read_state(file: Path) -> dict[str, Tensor]:
    """A state dictionary from a checkpoint; nothing in it can execute.

    Raises:
        MissingFileError: it is not there.
        ModelError: it asks for code, or holds no weights.
    """
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file", remedy="Download the bundle's weights ('large_files.yml') first.")
    try:
        content = read_archive(file) if zipfile.is_zipfile(file) else read_bare_pickle(file)
    except FAILURES as error:
        raise CorruptFileError(
            f"{file}: no checkpoint ({one_line(error) or type(error).__name__})", remedy="Get the bundle's weights again."
        ) from error
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{file}: no state dictionary of a network")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _model(plan: Plan, card: ModelCard, state: Mapping[str, Tensor], file: Path) -> Model:
    """The model with the weights of a network's body.

    Raises:
        ModelError: they are of another network.
    """
    check_size(plan, state, file)
    try:
        network = build_network(plan, len(card.labels) + 1)
    except ConfigError as error:
        raise ModelError(f"{file.parent.parent}: {error.problem}", remedy=error.remedy) from error
    body: Any = network.body
    expected = {name: tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in expected.keys() | stored.keys() if expected.get(name) != stored.get(name))
    if wrong:
        raise ModelError(
            f"{file}: weights of another network ({len(wrong)} differ; {wrong[0]} is {stored.get(wrong[0])}, "
            f"not {expected.get(wrong[0])})",
            remedy="Use the configuration and the weights of one bundle.",
        )
    body.load_state_dict(dict(state))
    return Model(plan, card, weights_of(network))


def evaluator(bundle: Path, config: BundleConfig) -> Any:
    """Runs an expression of a trusted bundle by MONAI: its place -> its value."""
    parser = trusted_parser(bundle, config.tree)
    return lambda place: parser.get_parsed_content(place.replace("#", "::"))


def trusted_parser(bundle: Path, tree: Mapping[str, Any]) -> Any:
    """MONAI's parser of a trusted bundle, whose scripts can be imported."""
    from monai.bundle import ConfigParser

    if str(bundle) not in sys.path:
        sys.path.insert(1, str(bundle))
    parser = ConfigParser(dict(tree))
    parser["bundle_root"] = str(bundle)
    return parser
