"""Dual domain-adversarial learning (paper 000, section 3.3): labels of one domain, clips alone of another."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from jax import lax

from avsal_jax import losses
from avsal_jax.errors import AvsalError
from avsal_jax.losses import Term
from avsal_jax.models.domain import CHANNELS, DomainDiscriminator
from avsal_jax.models.initial import fresh_variables
from avsal_jax.models.network import SALIENCY, Network, feature_shapes
from avsal_jax.ops.gradient_reversal import reversal_ramp, reverse_gradient
from avsal_jax.spec.fields import NotNegative, Range, Share, check_fields
from avsal_jax.training.objectives import BatchSpec, Objective, clip_of, masked_mean
from avsal_jax.training.replay import parted, remembered, replay_state, updated


@dataclasses.dataclass(frozen=True)
class AdaptedFeature:
    """A feature that shall be alike in both domains.

    Attributes:
      name: as the network records it: `audio`, `fused`, or another one of tokens.
      weight: of its domain loss.
    """

    name: str
    weight: NotNegative = 1.0


@dataclasses.dataclass(frozen=True)
class AdaptConfig:
    """Adaptation to a target domain without labels; the source domain is `data.sources`.

    Attributes:
      sources: of the target domain, as `data.sources`; its training lists are taken, list files whole.
      root: the folder of its prepared sets; '' for `data.root`.
      features: each with a discriminator of its own.
      feature_loss: what features learn from a discriminator. `reversed` (the paper): they raise its loss,
        by gradient reversal; that gradient vanishes for the clips of which it is certain, and pushes those
        on which it errs farther. `confusion` (Tzeng et al. 2015, "Simultaneous deep transfer across domains
        and tasks", Eq. 4): they make it say one half, whichever way it leans. `inverted` (Goodfellow et
        al. 2014, section 3, and Tzeng et al. 2017, "Adversarial discriminative domain adaptation"): they
        make it take either domain for the other, most strongly where it is certain.
      reversal: `constant` (the paper: 1) or `ramp` (DANN: from 0 to 1 over the run).
      strength: factor on the gradients that reach the features, of any feature loss.
      source_share: of the strength, for features of source clips: 1 (the paper) moves both domains alike, 0
        the target alone, as in Tzeng et al. 2017. Where both move, sources can become alike that labels had
        told apart.
      memory: so many clips of either domain, of the steps before, each discriminator sees again in a step
        (0, as in the paper: none). One that sees the last clips alone is evaded by features that hardly
        move, and a fresh one tells the domains as before; one that sees the earlier ones again keeps what
        it has learnt (Shrivastava et al. 2017, "Learning from simulated and unsupervised images").
      updates: so many more each discriminator gets in a step, on clips drawn from its memory (0, as in the
        paper: none; Goodfellow et al. 2014, Algorithm 1). Features move faster than it learns else.
      update_rate: of these.
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

    def __post_init__(self):
        check_fields(self, "adapt.")
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) < len(names):
            raise AvsalError(f"adapt.features names each feature once, and one at least; got {names}")
        if self.updates and not self.memory:
            raise AvsalError("adapt.updates are made on remembered clips: set adapt.memory too, to 512 say")
        rate, default = self.update_rate, AdaptConfig.update_rate
        if not self.updates and rate != default:
            raise AvsalError(
                f"adapt.update_rate={rate} changes nothing with adapt.updates=0; leave it at {default}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""
        return tuple(feature.name for feature in self.features)


class DomainAdversarial(Objective):
    """The saliency loss of source clips plus, for each feature, that of a discriminator of domains.

    L = L_s + sum_f w_f L_f (paper 000, Eq. 5: unit weights), L_f = mean(-log d(source)) +
    mean(-log(1 - d(target))) (Eqs. 2 and 3), d the probability of the source. One update lowers L for the
    discriminators; before the features the gradient of L_f is reversed, so they raise it. With the feature
    losses `confusion` and `inverted` none reaches them; w_f times that loss is added for them alone.

    As many target clips a step as source ones ("batch size 6" is taken as 6 + 6; not stated in the paper).
    Both go through the network in one call, so that its batch norms see both domains, as their running
    statistics do, which serve both afterwards; one call or two is not stated in the paper, and HD2S makes
    two (perceivelab/hd2s @3289dc1). The maps of target clips are computed and not used. What a row's `mask`
    says is about its truth: all clips of either stream count for the domains.

    Logged: `loss/NAME` of saliency; for each feature `domain/FEATURE/loss` and `domain/FEATURE/accuracy`,
    the share of clips (as many of either domain) that the discriminator tells; with a memory
    `domain/FEATURE/memory`, the loss on it, which is added; with a feature loss that is not `reversed`
    `domain/FEATURE/confusion` or `.../inverted`, likewise; `domain/strength`.

    Args:
      network, terms: as `Supervised`.
      config: features, weights and the strength of the reversal.
      source: of all clips; as `Clip.source`.

    Raises:
      AvsalError: a feature that the network does not record, or that is not one array of tokens.
    """

    def __init__(self, network: Network, terms: tuple[Term, ...], config: AdaptConfig, source: str = "video"):
        self._network, self._terms, self._config, self._source = network, terms, config, source
        try:
            shapes = feature_shapes(network, config.names)
        except AvsalError as error:
            raise AvsalError(f"adapt.features does not fit the system: {error}") from error
        for name, shape in shapes.items():
            if getattr(shape, "ndim", 0) != 3:
                raise AvsalError(
                    f"adapt.features names {name!r}, which is not tokens [B, N, C]; take audio or fused"
                )
        self._tokens = {name: shape.shape[1:] for name, shape in shapes.items()}
        self._discriminators = {
            name: DomainDiscriminator(CHANNELS.get(name, CHANNELS["fused"])) for name in config.names
        }

    def batch_specs(self):
        return {"source": BatchSpec(), "target": BatchSpec(labelled=False, domain="target")}

    def extra_variables(self, seed):
        variables, size = fresh_variables(self._init, seed), self._config.memory
        for name, tokens in self._tokens.items():
            own = variables_of(name)
            variables["batch_stats"][own] |= replay_state(
                variables["params"][own], tokens=tokens, size=size, updates=self._config.updates
            )
        return variables

    def _init(self, key) -> dict:
        """Returns the variables of all discriminators."""
        variables = {"params": {}, "batch_stats": {}}
        for name, discriminator in self._discriminators.items():
            tokens = jnp.zeros((1, *self._tokens[name]))
            for collection, tree in discriminator.init(key, tokens).items():
                variables[collection][variables_of(name)] = tree
        return variables

    def inner_updates(self, params, batch_stats, batches, step, rng):
        if not self._config.updates:
            return params, batch_stats
        clips = batches["target"]["frames"].shape[0]
        for number, (name, discriminator) in enumerate(self._discriminators.items()):
            own = variables_of(name)
            new, stats = updated(
                discriminator,
                loss=lambda logits: domain_loss(*_parts(logits)),
                params=params[own],
                stats=batch_stats[own],
                step=step,
                clips=clips,
                updates=self._config.updates,
                rate=self._config.update_rate,
                key=jax.random.fold_in(rng, number),
            )
            params, batch_stats = {**params, own: new}, {**batch_stats, own: stats}
        return params, batch_stats

    def loss(self, params, batch_stats, batches, step, total, rng):
        source, target = batches["source"], batches["target"]
        inputs = {name: _interleaved(source[name], rows) for name, rows in target.items()}
        outputs = self._network.run(
            {"params": params, "batch_stats": batch_stats},
            clip_of(inputs, self._source),
            train=True,
            rngs={"dropout": rng},
            features=self._config.names,
        )
        batch_stats = outputs.batch_stats
        per_clip, scores = losses.weighted(
            _parts(outputs.logits[SALIENCY])[0],
            density=source["density"],
            fixations=source["fixations"],
            terms=self._terms,
        )
        values = {f"loss/{name}": masked_mean(score, source["mask"]) for name, score in scores.items()}
        loss = masked_mean(per_clip, source["mask"])
        strength = reversal_strength(self._config, step, total)
        values["domain/strength"] = strength
        for feature in self._config.features:
            stats, parts, accuracy = self._domain(
                feature.name,
                tokens=outputs.features[feature.name],
                params=params,
                batch_stats=batch_stats,
                strength=strength,
                step=step,
            )
            batch_stats = {**batch_stats, **stats}
            loss = loss + feature.weight * sum(parts.values())
            parts = {**parts, "accuracy": accuracy}
            values |= {f"domain/{feature.name}/{key}": value for key, value in parts.items()}
        return loss, (batch_stats, values)

    def _domain(self, name, tokens, params, batch_stats, strength, step):
        """Returns (new batch_stats, losses to add, accuracy) of a feature's discriminator."""
        own, tokens = variables_of(name), tokens.astype(jnp.float32)
        if (share := self._config.source_share) != 1:
            source, target = _parts(tokens)
            # a negative strength turns nothing round: it is a share of the gradient
            tokens = _interleaved(reverse_gradient(source, -share), target)
        stats, kept = parted(batch_stats[own])
        clips, earlier = tokens.shape[0], []
        if "memory" in kept:
            again, kept["memory"] = remembered(kept["memory"], lax.stop_gradient(tokens), step)
            earlier = [again]

        def judged(params, seen):
            return self._discriminators[name].apply(
                {"params": params, "batch_stats": stats},
                jnp.concatenate([seen, *earlier]),
                train=True,
                mutable=["batch_stats"],
            )

        kind = self._config.feature_loss
        own_loss = OWN_LOSSES.get(kind)
        seen = lax.stop_gradient(tokens) if own_loss else reverse_gradient(tokens, strength)
        logits, state = judged(params[own], seen)
        source, target = _parts(logits[:clips])
        accuracy = (jnp.mean(source > 0) + jnp.mean(target < 0)) / 2
        parts = {"loss": domain_loss(source, target)}
        if earlier:
            parts["memory"] = domain_loss(*_parts(logits[clips:]))
        if own_loss:
            logits, _ = judged(lax.stop_gradient(params[own]), tokens)
            parts[kind] = strength * own_loss(*_parts(logits[:clips]))
        return {own: {**state["batch_stats"], **kept}}, parts, accuracy


def reversal_strength(config: AdaptConfig, step, total: int) -> jax.Array:
    """Returns the factor on reversed gradients at a step of a run, from 0."""
    progress = jnp.asarray(step, jnp.float32) / total
    return config.strength * (reversal_ramp(progress) if config.reversal == "ramp" else jnp.ones(()))


def domain_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log d(source)) + mean(-log(1 - d(target))) of logits [B] each (paper 000, Eqs. 2, 3)."""
    return jnp.mean(jax.nn.softplus(-source)) + jnp.mean(jax.nn.softplus(target))


def confusion_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log d - log(1 - d)) over logits [B] of either: twice the cross-entropy with one half.

    Tzeng et al. 2015, Eq. 4, in the scale of `domain_loss`: both are 2 log 2 where nothing is told.
    """
    return (domain_loss(source, source) + domain_loss(target, target)) / 2


def inverted_loss(source: jax.Array, target: jax.Array) -> jax.Array:
    """Returns mean(-log(1 - d(source))) + mean(-log d(target)): `domain_loss` of inverted labels.

    Goodfellow et al. 2014, section 3, for the target; Tzeng et al. 2017.
    """
    return domain_loss(target, source)


OWN_LOSSES = {"confusion": confusion_loss, "inverted": inverted_loss}  # of features, without reversal


def variables_of(feature: str) -> str:
    """Returns the name under which a discriminator's variables lie beside the slots of the network."""
    return f"discriminator_{feature}"


def _interleaved(source: jax.Array, target: jax.Array) -> jax.Array:
    """[B, ...] twice -> [2B, ...], in turn: on a mesh each device keeps its own rows, nothing is sent."""
    return jnp.stack([source, target], 1).reshape(2 * source.shape[0], *source.shape[1:])


def _parts(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the (source, target) rows of what `_interleaved` joined."""
    pairs = rows.reshape(rows.shape[0] // 2, 2, *rows.shape[1:])
    return pairs[:, 0], pairs[:, 1]
