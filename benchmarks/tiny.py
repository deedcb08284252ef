"""A run of two seconds, for tests and for what stops, damages or attacks runs."""

# a generator and a discriminator of a few hundred weights, drawn faces of 8x8, no W&B
TINY = [
    "data.size=8",
    "data.source.count=60",
    "data.batch_size=4",
    "data.val_fraction=0.2",
    "data.test_fraction=0.2",
    "model.generator.width=4",
    "model.generator.max_width=4",
    "model.generator.latent_size=3",
    "model.discriminator.width=4",
    "model.discriminator.max_width=4",
    "model.val_samples=0",
    "model.penalty_every=2",
    "trainer.gpus=0",
    "trainer.max_images=40",
    "trainer.log_every=4",
    "trainer.sample_every=20",
    "trainer.checkpoint_every=20",
    "logger.mode=disabled",
]
