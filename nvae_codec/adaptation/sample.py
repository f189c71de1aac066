"""What the optimizer sees of the images: features and pixels of a sample of fixed size, from the integer network.

The features are inputs of the adaptable layers, which no adaptation changes: one evaluation of the network serves all
steps. Latents are drawn from the posterior, as coding draws them from the stack.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvae_codec import ports
from nvae_codec.coding.batch import Batch, order_colours
from nvae_codec.coding.canvas import Canvas, gather_plane, plane_size
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel
from nvae_codec.likelihoods.colourwise import predict
from nvae_codec.polyphase import Phase
from nvae_codec.progress import advance
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import LARGEST_BATCH, Tile

Float32 = NDArray[np.float32]

CROP = 128
"""Side of the crops that are sampled of larger images, in pixels: a multiple of the network's stride."""


@dataclass(frozen=True)
class PhaseSample:
    """Pixels of one phase in random order: features (P, n), the last of them ones; prediction and values (3, n).

    operation: the layer that reads the features. coded: colours of a pixel that are coded. pixels: how many of the
    phase all images have.
    """

    operation: str
    features: Float32
    prediction: Float32
    values: Float32
    coded: int
    pixels: int

    @property
    def count(self) -> int:
        """Pixels in the sample."""
        return len(self.features[0])


def take_sample(
    model: IntegerModel,
    images: Sequence[NDArray[np.uint8]],
    budget: int,
    rng: np.random.Generator,
    device: torch.device,
    total: int | None = None,
) -> list[PhaseSample]:
    """A sample of every phase, of about ``budget`` pixels of the images, uint8 (H, W, 3) or (H, W), as coding has them.

    Either colour or gray images are sampled, whichever have more pixels. The model's expert says which heads are seen.
    ``total``: pixels of all that the sample stands for, by default of the images.
    """
    return sample_experts(model, images, budget, rng, device, [model.expert], total=total)[0]


def sample_experts(
    model: IntegerModel,
    images: Sequence[NDArray[np.uint8]],
    budget: int,
    rng: np.random.Generator,
    device: torch.device,
    experts: Sequence[int],
    crop: int = CROP,
    total: int | None = None,
) -> list[list[PhaseSample]]:
    """As :func:`take_sample`, for each of some experts: their heads read what one evaluation of the rest gives."""
    given = sum(image.shape[0] * image.shape[1] for image in images)
    in_gray = sum(image.shape[0] * image.shape[1] for image in images if image.ndim == 2)
    gray = 2 * in_gray > given
    planes = [order_colours(image, model.colour_order) for image in images]
    tiles = choose_tiles([Shape.of(image) for image in images], budget, gray, rng, crop)
    watched = _watch_features(model, experts)
    batches = []
    with exact_inference(device):
        for part in batch_tiles(tiles, LARGEST_BATCH):
            batch = fill_batch(watched, planes, part, device, experts)
            batches.append([_read(batch, index, phase, experts) for index, phase in enumerate(model.phases)])
    coded = 1 if gray else model.channels
    share = (total or given) / max(1, sum(tile.height * tile.width for tile in tiles))
    samples: list[list[PhaseSample]] = [[] for _ in experts]
    for index, parts in enumerate(zip(*batches, strict=True)):
        prediction, values = (np.concatenate(each, 1) for each in zip(*(known for known, _ in parts), strict=True))
        order = rng.permutation(prediction.shape[1])
        prediction, values = (np.ascontiguousarray(each[:, order]) for each in (prediction, values))
        pixels = round(share * len(order))
        for place, expert in enumerate(experts):
            features = _shuffle([seen[place] for _, seen in parts], order)
            name = model.graph.outputs[ports.pixels(index, expert)]
            samples[place].append(PhaseSample(name, features, prediction, values, coded, pixels))
    return samples


def choose_tiles(
    shapes: Sequence[Shape], budget: int, gray: bool, rng: np.random.Generator, crop: int = CROP
) -> list[Tile]:
    """All gray or all other images where they fit the budget of pixels, else a random part of them, cut into crops."""
    whole = [Tile(0, 0, s.height, s.width, index, gray) for index, s in enumerate(shapes) if s.gray == gray]
    if sum(tile.height * tile.width for tile in whole) <= budget:
        return whole
    return cut_crops(shapes, budget, gray, rng, crop)


def cut_crops(
    shapes: Sequence[Shape], budget: int, gray: bool, rng: np.random.Generator, crop: int = CROP
) -> list[Tile]:
    """Crops of all gray or all other images, in random order, up to a budget of pixels but at least one."""
    cells: list[Tile] = []
    for index, shape in enumerate(shapes):
        if shape.gray != gray:
            continue
        for top in range(0, max(1, shape.height - crop // 2), crop):
            for left in range(0, max(1, shape.width - crop // 2), crop):
                height, width = min(crop, shape.height - top), min(crop, shape.width - left)
                cells.append(Tile(top, left, height, width, index, gray))
    picked, taken = list[Tile](), 0
    for index in rng.permutation(len(cells)):
        cell = cells[index]
        if taken and taken + cell.height * cell.width > budget:
            break
        picked.append(cell)
        taken += cell.height * cell.width
    return picked


def batch_tiles(tiles: Sequence[Tile], pixels: int) -> Iterator[list[Tile]]:
    """Tiles of one size together, up to a number of pixels."""
    by_size: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        by_size.setdefault((tile.height, tile.width), []).append(tile)
    for (height, width), alike in by_size.items():
        together = max(1, pixels // (height * width))
        for start in range(0, len(alike), together):
            yield alike[start : start + together]


def _watch_features(model: IntegerModel, experts: Sequence[int]) -> IntegerModel:
    """The same network, whose outputs for pixels are what the last layer of each phase reads."""
    outputs = dict(model.graph.outputs)
    for index in range(len(model.phases)):
        for expert in experts:
            name = ports.pixels(index, expert)
            outputs[name] = model.graph.operations[outputs[name]].inputs[0]
    return dataclasses.replace(model, graph=model.graph.with_outputs(outputs))


def fill_batch(
    model: IntegerModel,
    planes: Sequence[NDArray[np.uint8]],
    tiles: Sequence[Tile],
    device: torch.device,
    experts: Sequence[int],
) -> Batch:
    """A batch whose latents are drawn from the posterior."""
    canvas = Canvas(len(tiles), (tiles[0].height, tiles[0].width), model.stride, model.channels, model.padding)
    batch = Batch(model, canvas, first=False, chunk=None, device=device, gray=tiles[0].gray, experts=experts)
    for phase in model.phases:
        canvas.write(phase.plane, gather_plane(planes, tiles, phase.plane))
    batch.show_image()
    rng = np.random.Generator(np.random.PCG64(0))
    for index in range(len(model.groups)):
        prior = batch.prior(index)
        posterior = batch.posterior(index, prior)
        slots = rng.integers(0, 1 << model.latent_bits, posterior.count, np.int32)
        batch.set_latents(index, prior.z(posterior.to_prior(posterior.find(slots)[0])))
    return batch


def _read(
    batch: Batch, index: int, phase: Phase, experts: Sequence[int]
) -> tuple[tuple[Float32, Float32], list[Tensor]]:
    """Prediction and values (3, n) of a phase of a batch, and its features for each expert, (n, P - 1)."""
    rows, columns = plane_size(batch.canvas.size, phase.plane)
    edge = batch.canvas.edge
    batch.show_known(index)
    ports_of = [ports.pixels(index, expert) for expert in experts]
    seen = {port: batch.network_output(port) for port in dict.fromkeys(ports_of)}  # experts share the base
    own = [seen[port][:, :, edge : edge + rows, edge : edge + columns].permute(0, 2, 3, 1) for port in ports_of]
    advance(batch.pixel_counts[index])
    return read_values(batch, index, phase), [each.reshape(-1, each.shape[3]).cpu() for each in own]


def read_values(batch: Batch, index: int, phase: Phase) -> tuple[Float32, Float32]:
    """Prediction and values (3, n) of a phase of a batch."""
    prediction = np.stack(predict(phase, batch.canvas)).astype(np.float32)
    values = np.zeros_like(prediction)
    values[: batch.coded] = np.stack(batch.known_values(index))
    return prediction, values


def _shuffle(parts: Sequence[Tensor], order: NDArray[np.intp]) -> Float32:
    """Features of a phase (P, n) in an order of its pixels, the last of them ones. Rows are moved before columns."""
    rows = (parts[0] if len(parts) == 1 else torch.cat(list(parts)))[torch.from_numpy(order)]
    features = np.ones((rows.shape[1] + 1, len(rows)), np.float32)
    torch.from_numpy(features)[:-1] = rows.t()
    return features
