"""Dual domain-adversarial learning (Fan et al. 2022, 3.3): one labelled and one unlabelled domain."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax import losses
from avsal_jax.data.prepared.source_words import check_sources, videos_in_words
from avsal_jax.errors import AvsalError
from avsal_jax.losses import Term
from avsal_jax.models.domain import CHANNELS, DomainDiscriminator
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.network import SALIENCY, Network, feature_shapes
from avsal_jax.ops.gradient_reversal import reversal_ramp, reverse_gradient
from avsal_jax.registry import register
from avsal_jax.spec.fields import NotNegative, Range, Share, plain
from avsal_jax.training.objectives.objective import (
    LABELLED,
    Objective,
    ObjectiveConfig,
    StepOutputs,
    Stream,
    clip_of,
    masked_mean,
)
from avsal_jax.training.objectives.replay import remembered, replay_state, updated

if TYPE_CHECKING:
    from avsal_jax.data.prepared.videos import PreparedVideo

NAME = "domain_adversarial"
TARGET = "target"  # the stream of the other domain


@dataclasses.dataclass(frozen=True)
class AdaptedFeature:
    """A feature that is adapted to have the same distribution in both domains.

    Attributes:
      name: of a recorded feature of tokens, such as `audio` or `fused`.
      weight: of its domain loss.
    """

    name: str
    weight: NotNegative = 1.0


@register("objective", NAME)
@dataclasses.dataclass(frozen=True)
class DomainAdversarialConfig(ObjectiveConfig):
    """Adaptation to a target domain without labels; the source domain is `data.sources`.

    Attributes:
      sources: of the target domain, as `data.sources`; of sets the training list, of list files all videos.
      root: the folder of its prepared sets; '' for `data.root`.
      features: each has its own discriminator.
      feature_loss: the loss of features with a discriminator. `reversed` (the paper): features maximise the
        loss of the discriminator, by gradient reversal; the gradient vanishes for clips that it classifies
        with certainty, and increases the error on misclassified clips. `confusion` (Tzeng et al. 2015,
        "Simultaneous deep transfer across domains and tasks", Eq. 4): features move its probability to one
        half. `inverted` (Goodfellow et al. 2014, section 3, and Tzeng et al. 2017, "Adversarial
        discriminative domain adaptation"): features move it to the wrong domain, with the largest gradient
        where it is certain.
      reversal: `constant` (the paper: 1) or `ramp` (DANN: from 0 to 1 over the run).
      strength: factor on the gradients with respect to features, for every feature loss.
      source_share: factor on `strength` for features of source clips: 1 (the paper) adapts both domains
        equally; 0 adapts only the target, as in Tzeng et al. 2017. Adapting the source too can remove
        differences between source clips that the labels had taught.
      memory: number of clips per domain kept from earlier steps and shown to the discriminators again; 0
        (the paper) disables it. A discriminator that sees only the latest clips is fooled by small changes
        of features, while a newly trained one still separates the domains; with the memory it retains what
        it has learned (Shrivastava et al. 2017, "Learning from simulated and unsupervised images").
      updates: number of extra updates of each discriminator per step, on clips drawn from its memory; 0 (the
        paper) disables them (Goodfellow et al. 2014, Algorithm 1). Without them, features can change faster
        than the discriminator learns.
      update_rate: learning rate of the extra updates.
    """

    sources: tuple = ()
    root: str = ""
    features: tuple[AdaptedFeature, ...] = (AdaptedFeature("audio"), AdaptedFeature("fused"))
    feature_loss: Literal["reversed", "confusion", "inverted"] = "reversed"
    reversal: Literal["constant", "ramp"] = "constant"
    strength: NotNegative = 1.0
    source_share: Share = 1.0
    memory: Annotated[int, Range(0, 4096)] = 0  # clips; a part of every checkpoint
    updates: Annotated[int, Range(0, 64)] = 0
    update_rate: NotNegative = 1e-3

    takes_cached_features: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        check_sources(self.sources)
        names = self.feature_names
        if not names or len(set(names)) < len(names):
            raise AvsalError(
                f"objective.features needs at least one feature, and each only once; got {[*names]}"
            )
        if self.updates and not self.memory:
            raise AvsalError(
                "objective.updates need clips in memory: set objective.memory too, for example to 512"
            )
        rate, default = self.update_rate, DomainAdversarialConfig.update_rate
        if not self.updates and rate != default:
            raise AvsalError(
                f"objective.update_rate={rate} changes nothing with objective.updates=0; leave it at "
                f"{default}"
            )

    @property
    def feature_names(self):
        return tuple(feature.name for feature in self.features)

    def build(self, network, terms, medium="video"):
        return DomainAdversarial(network, terms, config=self, medium=medium)

    def streams(self):
        return {LABELLED: Stream(), TARGET: Stream(labelled=False, sources=self.sources, root=self.root)}

    def check(self, config):
        super().check(config)
        if not self.sources:
            raise AvsalError("objective.sources is empty: name the target domain, as (('diem', 1),)")

    def check_videos(self, videos, labelled):
        by_name = {(video.dataset, video.name): video for video in labelled}
        shared = [
            video
            for video in videos[TARGET]
            if _is_same_video(video, by_name.get((video.dataset, video.name)))
        ]
        if shared:
            raise AvsalError(
                f"the domains overlap: {shared[0].dataset} {shared[0].name} and {len(shared) - 1} more "
                "videos of objective.sources are also labelled videos of data.sources; remove them from "
                "one of these"
            )

    def notes(self, videos):
        features = ", ".join(self.feature_names)
        return {"adaptation": f"to {videos_in_words(videos[TARGET])}, without their labels, by {features}"}


def adaptation(sources: tuple, *features: str, **fields) -> dict:
    """Returns plain values of the objective, with features of unit weights and other fields."""
    config = DomainAdversarialConfig(sources, features=tuple(map(AdaptedFeature, features)), **fields)
    return {"name": NAME, **plain(config)}


def _is_same_video(video: PreparedVideo, other: PreparedVideo | None) -> bool:
    """Whether two videos are the same; generated sets use the same names for different videos."""
    from avsal_jax.data.sets.dataset import find_dataset  # deferred, since it imports video readers

    if other is None or find_dataset(video.dataset).generator is None:
        return other is not None
    return video.pictures_digest() == other.pictures_digest()


class DomainAdversarial(Objective):
    """The saliency loss of source clips plus, for each feature, that of a discriminator of domains.

    L = L_s + sum_f w_f L_f (Fan et al. 2022, Eq. 5: unit weights), L_f = mean(-log d(source)) +
    mean(-log(1 - d(target))) (Eqs. 2 and 3), d the probability of the source. Each update decreases L with
    respect to the discriminators. The gradient of L_f is reversed before the features, so features increase
    L_f. With the feature losses `confusion` and `inverted`, L_f has no gradient for the features; w_f times
    the feature loss is added, with a gradient only for the features.

    A step has the same number of target and source clips ("batch size 6" is taken as 6 + 6; not stated in
    the paper). Both go through the network in one call, so batch statistics and running statistics of its
    norms cover both domains. One call or two is not stated in the paper; HD2S makes two (perceivelab/hd2s
    @3289dc1). The maps of target clips are computed and not used. The `mask` of a clip concerns only its
    truth: all clips of both streams count for the domain losses.

    Logged: `loss/NAME` of saliency; for each feature `domain/FEATURE/loss` and `domain/FEATURE/accuracy`,
    the share of clips that the discriminator classifies correctly (balanced over domains); with a memory
    `domain/FEATURE/memory`, the loss on the memory, which is added; with a feature loss other than
    `reversed`, `domain/FEATURE/confusion` or `.../inverted`, likewise; `domain/strength`.

    Args:
      network, terms: as `Supervised`.
      config: of the objective.
      medium: of all clips; as `Clip.medium`.

    Raises:
      AvsalError: a feature that the network does not record, or that is not one array of tokens.
    """

    def __init__(
        self,
        network: Network,
        terms: tuple[Term, ...],
        config: DomainAdversarialConfig,
        medium: str = "video",
    ):
        self._network, self._terms, self._config, self._medium = network, terms, config, medium
        try:
            shapes = feature_shapes(network, config.feature_names)
        except AvsalError as error:
            raise AvsalError(f"objective.features does not fit the system: {error}") from error
        for name, shape in shapes.items():
            if getattr(shape, "ndim", 0) != 3:
                raise AvsalError(
                    f"objective.features names {name!r}, which is not tokens [B, N, C]; use audio or fused"
                )
        self._tokens = {name: shape.shape[1:] for name, shape in shapes.items()}
        self._discriminators = {
            name: DomainDiscriminator(CHANNELS.get(name, CHANNELS["fused"])) for name in config.feature_names
        }

    def extra_variables(self, seed):
        variables, extra = fresh_variables(self._init, seed), {}
        for name, tokens in self._tokens.items():
            module = variables_of(name)
            memories = replay_state(
                variables["params"][module],
                tokens=tokens,
                size=self._config.memory,
                updates=self._config.updates,
            )
            extra |= {module: memories} if memories else {}
        return {**variables, "extra": extra}

    def _init(self, key) -> dict:
        """Returns the variables of all discriminators."""
        variables = {"params": {}, "batch_stats": {}}
        for name, discriminator in self._discriminators.items():
            tokens = jnp.zeros((1, *self._tokens[name]))
            for collection, tree in discriminator.init(key, tokens).items():
                variables[collection][variables_of(name)] = tree
        return variables

    def inner_updates(self, params, inputs):
        if not self._config.updates:
            return params, inputs
        clips = inputs.batches[TARGET]["frames"].shape[0]
        stats, extra = inputs.batch_stats, inputs.extra
        for number, (name, discriminator) in enumerate(self._discriminators.items()):
            module = variables_of(name)
            new, norms, memories = updated(
                discriminator,
                loss=lambda logits: domain_loss(*_parts(logits)),
                params=params[module],
                norms=stats[module],
                memories=extra[module],
                step=inputs.step,
                clips=clips,
                updates=self._config.updates,
                rate=self._config.update_rate,
                key=jax.random.fold_in(inputs.rng, number),
            )
            params, stats = {**params, module: new}, {**stats, module: norms}
            extra = {**extra, module: memories}
        return params, inputs.replace(batch_stats=stats, extra=extra)

    def loss(self, params, inputs):
        source, target = inputs.batches[LABELLED], inputs.batches[TARGET]
        clips = {name: _interleaved(source[name], rows) for name, rows in target.items()}
        outputs = self._network.run(
            {"params": params, "batch_stats": inputs.batch_stats},
            clip_of(clips, self._medium),
            train=True,
            rngs={"dropout": inputs.rng},
            features=self._config.feature_names,
        )
        batch_stats, extra = outputs.batch_stats, inputs.extra
        per_clip, scores = losses.weighted(
            _parts(outputs.logits[SALIENCY])[0],
            density=source["density"],
            fixations=source["fixations"],
            terms=self._terms,
        )
        values = {f"loss/{name}": masked_mean(score, source["mask"]) for name, score in scores.items()}
        loss = masked_mean(per_clip, source["mask"])
        strength = reversal_strength(self._config, inputs.step, inputs.total)
        values["domain/strength"] = strength
        for feature in self._config.features:
            module = variables_of(feature.name)
            norms, memories, parts = self._domain(
                feature.name,
                tokens=outputs.features[feature.name],
                params=params[module],
                norms=batch_stats[module],
                memories=extra.get(module, {}),
                strength=strength,
                step=inputs.step,
            )
            batch_stats = {**batch_stats, module: norms}
            extra = {**extra, module: memories} if memories else extra
            accuracy = parts.pop("accuracy")
            loss = loss + feature.weight * sum(parts.values())
            parts["accuracy"] = accuracy
            values |= {f"domain/{feature.name}/{key}": value for key, value in parts.items()}
        return loss, StepOutputs(batch_stats, extra, values)

    def _domain(self, name, tokens, params, norms, memories, strength, step):
        """Returns (norms, memories, losses to add and the accuracy) of a feature's discriminator."""
        tokens = tokens.astype(jnp.float32)
        if (share := self._config.source_share) != 1:
            source, target = _parts(tokens)
            # with a negative strength the gradient is scaled and not reversed
            tokens = _interleaved(reverse_gradient(source, -share), target)
        clips, earlier = tokens.shape[0], []
        if "memory" in memories:
            earlier_tokens, memory = remembered(memories["memory"], lax.stop_gradient(tokens), step)
            earlier, memories = [earlier_tokens], {**memories, "memory": memory}

        def discriminate(params, inputs):
            return self._discriminators[name].apply(
                {"params": params, "batch_stats": norms},
                jnp.concatenate([inputs, *earlier]),
                train=True,
                mutable=["batch_stats"],
            )

        kind = self._config.feature_loss
        feature_loss = FEATURE_LOSSES.get(kind)
        visible = lax.stop_gradient(tokens) if feature_loss else reverse_gradient(tokens, strength)
        logits, state = discriminate(params, visible)
        source, target = _parts(logits[:clips])
        accuracy = (jnp.mean(source > 0) + jnp.mean(target < 0)) / 2
        parts = {"loss": domain_loss(source, target)}
        if earlier:
            parts["memory"] = domain_loss(*_parts(logits[clips:]))
        if feature_loss:
            logits, _ = discriminate(lax.stop_gradient(params), tokens)
            parts[kind] = strength * feature_loss(*_parts(logits[:clips]))
        return dict(state["batch_stats"]), memories, {**parts, "accuracy": accuracy}


def reversal_strength(config: DomainAdversarialConfig, step, total: int) -> jax.Array:
    """Returns the factor on reversed gradients at a step of a run, from 0."""
    progress = jnp.asarray(step, jnp.float32) / total
    return config.strength * (reversal_ramp(progress) if config.reversal == "ramp" else jnp.ones(()))


def domain_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log d(source)) + mean(-log(1 - d(target))) of logits [B] (Fan et al. 2022, Eqs. 2, 3)."""
    return jnp.mean(jax.nn.softplus(-source)) + jnp.mean(jax.nn.softplus(target))


def confusion_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log d - log(1 - d)) over logits [B] of each domain: twice the cross-entropy with 1/2.

    Tzeng et al. 2015, Eq. 4, in the scale of `domain_loss`: both are 2 log 2 if d = 1/2 for all clips.
    """
    return (domain_loss(source, source) + domain_loss(target, target)) / 2


def inverted_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log(1 - d(source))) + mean(-log d(target)): `domain_loss` with inverted labels.

    Goodfellow et al. 2014, section 3, for the target; Tzeng et al. 2017.
    """
    return domain_loss(target, source)


FEATURE_LOSSES = {"confusion": confusion_loss, "inverted": inverted_loss}  # of features, without reversal


def variables_of(feature: str) -> str:
    """Returns the name of a discriminator's variables, next to the slots of the network."""
    return f"discriminator_{feature}"


def _interleaved(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns [2B, ...], alternating rows of two [B, ...]; on a mesh this needs no communication."""
    return jnp.stack([source, target], 1).reshape(2 * source.shape[0], *source.shape[1:])


def _parts(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the (source, target) rows of a result of `_interleaved`."""
    pairs = rows.reshape(rows.shape[0] // 2, 2, *rows.shape[1:])
    return pairs[:, 0], pairs[:, 1]
