"""Arguments of Keras, PyTorch and scikit-learn that `fit` and `evaluate` do not have.

For each, what to write here.
"""

KEY = "write key=jax.random.key(0)"
EPOCHS = "write epochs=10"
FIT = {
    "verbose": "write progress=False for no bar",
    "callbacks": "write on_epoch=f, called with the epoch and its metrics; keep_best= and "
    "patience= stop early; checkpoint_dir= saves",
    "shuffle": "arrays are shuffled in each epoch, by the key; for another order give batches: a "
    "function of the epoch that returns them",
    "initial_epoch": "write checkpoint_dir=, and the same call goes on where it stopped",
    "validation_freq": "validation follows each epoch; write dj.train.run(..., evaluate_every=5)",
    "validation_steps": "all of validation_data is evaluated; give fewer examples or batches",
    "validation_batch_size": "validation takes a few thousand examples at a time; leave it out",
    "learning_rate": "it belongs to the optimizer, as in optax.adam(1e-3)",
    "lr": "it belongs to the optimizer, as in optax.adam(1e-3)",
    "dropout": "it belongs to the model, as in dj.layers.Dropout(0.5, rngs=rngs)",
    "seed": KEY,
    "random_state": KEY,
    "rng": KEY,
    "rngs": KEY,
    "num_epochs": EPOCHS,
    "n_epochs": EPOCHS,
    "max_epochs": EPOCHS,
    "workers": "a loader has workers of its own; leave it out",
    "use_multiprocessing": "a loader has workers of its own; leave it out",
    "run_eagerly": "an epoch is one compiled program; leave it out",
    "jit_compile": "an epoch is one compiled program; leave it out",
    "device": "it trains where x is: jax.device_put(x, device)",
}
EVALUATE = {
    "verbose": "there is no bar; leave it out",
    "batch_size": "it takes a few thousand examples at a time; leave it out",
    "steps": "all batches are evaluated; give fewer",
    "return_dict": "it returns a dict; leave it out",
    "callbacks": "leave it out",
    "loss": "write metrics=['mse'], or another name",
    "key": "nothing is random in evaluation; leave it out",
    "sample_weight": "write a metric of your own, (model, x, y) -> a number, with the weight in y",
}
